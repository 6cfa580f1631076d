"""Joins COCO annotation files: one row for each image, with its picture, its annotations, their category names and captions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading.documents import document
from choline_data.adapters.reading.media_names import MediaNames
from choline_data.adapters.reading.names import parts

Row = dict[str, Any]


def is_annotations(value: Any) -> bool:
    """Whether a JSON value is a COCO annotation file. Files of test images have no annotations."""
    if not isinstance(value, dict):
        return False
    images, notes = value.get("images"), value.get("annotations", [])
    if not isinstance(images, list) or not all(isinstance(i, dict) and "id" in i for i in images):
        return False
    if not isinstance(notes, list) or not all(isinstance(n, dict) for n in notes):
        return False
    return "annotations" in value or (bool(images) and all("file_name" in i for i in images) and "categories" in value)


class CocoImages:
    """The images of several annotation files, in the order of their first occurrence.

    Files that name the same picture (instances, captions and keypoints) add to one row. `masks_of` gives the mask of a row.
    """

    def __init__(self, notes: Sequence[SourceFile], pictures: Sequence[SourceFile]) -> None:
        self.rows: list[Row] = []
        self.pictures: list[SourceFile | None] = []
        self.masks: list[SourceFile | None] = []
        self._rows_of: dict[object, int] = {}
        masks = masks_among(notes, pictures)
        are_masks = {f.path for mask_files in masks.values() for f in mask_files}
        others = [f for f in pictures if f.path not in are_masks]
        for file in notes:
            names = MediaNames(others, file.name)
            self._add(file, document(file.path, file.name), names, MediaNames(masks.get(file.name, ()), file.name))

    def _add(self, file: SourceFile, value: Row, names: MediaNames, masks: MediaNames) -> None:
        for row in _images(value):
            picture = next(filter(None, map(names.find, names_of(row))), None)
            found = [masks.find(n.get("file_name")) for n in row["annotations"] or () if "segments_info" in n]
            key = picture.path if picture is not None else (file.name, str(row.get("id")), row.get("file_name"))
            at = self._rows_of.setdefault(key, len(self.rows))
            if at == len(self.rows):
                self.rows.append(row)
                self.pictures.append(picture)
                self.masks.append(next(filter(None, found), None))
            else:
                _merge(self.rows[at], row)
                self.masks[at] = self.masks[at] or next(filter(None, found), None)


def pictures_of(value: Row, file: SourceFile, pictures: Sequence[SourceFile]) -> Iterator[SourceFile]:
    """Yields the pictures that an annotation file names. `pictures` are those that are not masks."""
    names = MediaNames(pictures, file.name)
    for image in value["images"]:
        yield from filter(None, map(names.find, names_of(image)))


def names_of(image: Row) -> list[str]:
    """Returns the paths that an image states, the best first. LVIS states only a URL."""
    return [str(image[key]) for key in ("file_name", "coco_url") if isinstance(image.get(key), str)]


def masks_among(notes: Sequence[SourceFile], pictures: Sequence[SourceFile]) -> dict[str, list[SourceFile]]:
    """Returns the masks of each panoptic annotation file, by the name of the file.

    They lie in the folder beside it that has its name without extension.
    """
    found = {}
    for file in notes:
        *folders, last = parts(file.name)
        folder = [*folders, last.partition(".")[0]]
        inside = [f for f in pictures if parts(f.name)[: len(folder)] == folder]
        if inside and _is_panoptic(document(file.path, file.name)):
            found[file.name] = inside
    return found


def _is_panoptic(value: Any) -> bool:
    return is_annotations(value) and any("segments_info" in note for note in value.get("annotations", ())[:1])


def _images(value: Row) -> Iterator[Row]:
    """Yields the images in file order, each with its annotations. Annotations of an unknown image form a row of their own."""
    names = {c.get("id"): c.get("name") for c in value.get("categories") or [] if isinstance(c, dict)}
    notes: defaultdict[Any, list[Row]] = defaultdict(list)
    for note in value.get("annotations", ()):
        notes[note.get("image_id")].append(_named(note, names))
    for image in value["images"]:
        yield _row(image, notes.pop(image["id"], [] if "annotations" in value else None))
    for key, found in notes.items():
        yield _row({"id": key}, found)


def _named(note: Row, names: dict[Any, Any]) -> Row:
    """Returns an annotation with the name of its category, and with those of the segments of a panoptic annotation."""
    if isinstance(note.get("segments_info"), list):
        note = {**note, "segments_info": [_named(s, names) for s in note["segments_info"] if isinstance(s, dict)]}
    known = note.get("category_id") in names if _is_plain(note.get("category_id")) else False
    return {**note, "category": names[note["category_id"]]} if known else note


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int)


def _row(image: Row, found: list[Row] | None) -> Row:
    row = {**image, "annotations": found}
    captions = [n["caption"] for n in found or () if isinstance(n.get("caption"), str)]
    segments = [s for n in found or () for s in (n, *n.get("segments_info", ()))]
    labels = list(dict.fromkeys(str(s["category"]) for s in segments if s.get("category") is not None))
    return {**row, **({"captions": captions} if captions else {}), **({"labels": labels} if labels else {})}


def _merge(row: Row, other: Row) -> None:
    """Adds what another file states about the same image."""
    for key in ("annotations", "captions", "labels"):
        if other.get(key) is not None:
            row[key] = [*(row.get(key) or ()), *other[key]]
    if "labels" in row:
        row["labels"] = list(dict.fromkeys(row["labels"]))
    for key, value in other.items():
        row.setdefault(key, value)
