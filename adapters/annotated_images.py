"""Reads images with their objects or masks: Pascal VOC, YOLO, LabelMe, CVAT, Supervisely, KITTI, VisDrone, DOTA, Cityscapes.

- A file with the name of an image, in its folder or in one beside it (`images/a.jpg` and `labels/a.txt`), has the objects of the
  image. `annotations.xml` of CVAT has those of all images.
- `names` of YOLO come from `data.yaml`, or from `classes.txt` or `obj.names`. Without them, objects have only numbers.
- Pictures in folders of masks (`masks`, `SegmentationClass`, `gtFine` …) or of paired images (`B`, `HR` …) follow their image.
- Lists such as `ImageSets/Main/val.txt` decide the splits.

Each row is an image. `annotations` has its objects, with the fields of the source, and `labels` the names of their classes.
An image without a file of its own has no objects that are known: `annotations` is null.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.beside.class_files import classes_in, is_class_file
from choline_data.adapters.beside.image_notes import (
    STYLES,
    Classes,
    Note,
    NoteFault,
    cvat_images,
    style_named,
)
from choline_data.adapters.beside.transcripts import spoken_of
from choline_data.adapters.reading import io, media, members
from choline_data.adapters.reading.media import MAX_MEDIUM_BYTES
from choline_data.adapters.reading.media_names import MediaNames
from choline_data.adapters.reading.names import in_order, is_about, parts
from choline_data.adapters.reading.picture_pairs import paired
from choline_data.adapters.reading.rows import SourceRows, file_shards
from choline_data.adapters.reading.split_lists import in_lists, split_of_list
from choline_data.adapters.reading.twins import twins_of
from choline_data.errors import ChoiceNeededError, CholineDataError, one_line

MAX_NOTE_BYTES = 64 << 20
LOOKED_AT = 16
_CVAT = "CVAT"


@dataclass(frozen=True)
class AnnotatedImages:
    """Reads one image for each row. `style` is the format of the files that annotate images; "" for pictures with masks only."""

    style: str = ""
    max_bytes: int = MAX_MEDIUM_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Groups of images by split, in order of name. Each shard also has the masks and annotations of its images."""
        pictures = [f for f in files if media.column_for(f.name) == "image"]
        others = [f for f in files if media.column_for(f.name) != "image"]
        masks = paired(pictures)
        seconds = {f.name for columns in masks.values() for f in columns.values()}
        firsts = in_order(f for f in pictures if f.name not in seconds)
        twins = twins_of(others, firsts, _stem) if self.style not in ("", _CVAT) else {}
        owned = {f.name for columns in twins.values() for f in columns}
        shared = tuple(f for f in others if f.name not in owned)
        image_shards = []
        for config, split in sorted({(f.config, f.split) for f in firsts}):
            of_split = [f for f in firsts if (f.config, f.split) == (config, split)]
            for shard in file_shards(of_split, split):
                beside = [*(g for f in shard.files for g in (*masks.get(f.name, {}).values(), *twins.get(f.name, ())))]
                image_shards.append(replace(shard, files=(*shard.files, *beside, *shared), config=config))
        return image_shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the images of the shard. An image is rejected if it or its annotation file is damaged."""
        pictures = [f for f in shard.files if media.column_for(f.name) == "image"]
        masks = paired(pictures)
        seconds = {f.path: f for own_masks in masks.values() for f in own_masks.values()}
        firsts = [f for f in pictures if f.path not in seconds]
        columns = sorted({column for own_masks in masks.values() for column in own_masks})
        notes = _Notes(self.style, firsts, [f for f in shard.files if media.column_for(f.name) != "image"])
        kinds: dict[str, Any] = dict.fromkeys(("image", *columns), media.MEDIUM)
        rows = SourceRows(shard.origin, kinds)
        for number, (file, data) in enumerate(members.contents(firsts[start:], self.max_bytes, inflate=False), start):
            own_masks = masks.get(file.name, {})
            seconds_here = dict(members.contents(list(own_masks.values()), self.max_bytes, inflate=False))
            size = len(data or b"") + sum(len(d or b"") for d in seconds_here.values())
            if rows.full(size):
                yield from rows.take()
            fault = next(
                (f"{f.name}: {w}" for f, d in ((file, data), *seconds_here.items()) if (w := self._fault(d))), ""
            )
            values: dict[str, Any] = {"image": {"bytes": data, "path": file.name}}
            values |= {c: {"bytes": seconds_here[f], "path": f.name} for c, f in own_masks.items()}
            try:
                values |= notes.of(file)
            except (NoteFault, CholineDataError) as error:
                fault = fault or str(error)
            if fault:
                rows.reject(number, fault, file.name)
            else:
                rows.add(number, values, size, file.name)
        yield from rows.take()

    def _fault(self, data: bytes | None) -> str:
        if data is None:
            return f"above {self.max_bytes:,} bytes (max_bytes)"
        return media.probe(data, "image").fault


ADAPTER = AnnotatedImages


class _Notes:
    """The objects of the images of a shard, by the name of the image. Reads each annotation file once."""

    def __init__(self, style: str, pictures: Sequence[SourceFile], others: Sequence[SourceFile]) -> None:
        self._style = style_named(style) if style not in ("", _CVAT) else None
        self._twins: dict[str, list[SourceFile]] = {}
        self._of_path: dict[str, list[Note]] | None = None
        self._classes: dict[str, Classes] = {}
        if style == _CVAT:
            self._of_path = _of_cvat(pictures, others)
        elif self._style is not None:
            self._twins = twins_of([f for f in others if _suffix(f) in self._style.suffixes], pictures, _stem)
            owned = {f.path for twin_files in self._twins.values() for f in twin_files}
            self._classes = classes_in([f for f in others if f.path not in owned])

    def of(self, picture: SourceFile) -> dict[str, Any]:
        """Returns the objects of a picture, and the names of their classes. Raises NoteFault if its file is damaged."""
        if self._of_path is not None:
            return _values(self._of_path.get(picture.path))
        if self._style is None:
            return {}
        file = next(iter(self._twins.get(picture.name, ())), None)
        if file is None:
            return {"annotations": None, "labels": None}
        ((_, data),) = members.contents([file], MAX_NOTE_BYTES)
        try:
            return _values(self._style.parse(data or b"", file.name, _nearest(self._classes, file.name)))
        except NoteFault as error:
            raise NoteFault(f"{file.name}: {error}") from error


def _values(notes: list[Note] | None) -> dict[str, Any]:
    if notes is None:
        return {"annotations": None, "labels": None}
    names = (str(note["category"]) for note in notes if note.get("category") is not None)
    return {"annotations": notes, "labels": list(dict.fromkeys(names))}


def _nearest(classes: dict[str, Classes], name: str) -> Classes:
    """Returns the classes in the nearest folder above a label file that states classes."""
    above = {folder: found for folder, found in classes.items() if f"{'/'.join(parts(name))}/".startswith(folder)}
    best = max(above or classes, key=len, default="")
    return classes.get(best, Classes())


def _of_cvat(pictures: Sequence[SourceFile], others: Sequence[SourceFile]) -> dict[str, list[Note]]:
    found: dict[str, list[Note]] = {}
    for file, data in members.contents([f for f in others if _suffix(f) == "xml"], MAX_NOTE_BYTES):
        names = MediaNames(pictures, file.name)
        for name, notes in cvat_images(data or b"", file.name).items():
            picture = names.find(name)
            if picture is not None:
                found[picture.path] = notes
    return found


def _suffix(file: SourceFile) -> str:
    return media.suffix_of(file.name)


def _stem(name: str) -> str:
    """Returns the stem of the image that a file with this name may annotate: `a` for `a.txt`, `a.jpg.json` and
    `a_gtFine_polygons.json`.
    """
    last = parts(name)[-1].lower()
    stem = last.rpartition(".")[0] or last
    stem = stem.rpartition(".")[0] if media.column_for(stem) else stem
    return stem.replace("_gtfine_polygons", "_leftimg8bit").replace("_gtcoarse_polygons", "_leftimg8bit")


def detect(source: Source) -> list[FormatClaim]:
    """Claims the images of a source if most annotation files, or most masks, belong to exactly one of them."""
    pictures = [f for f in source.files if media.column_for(f.name) == "image"]
    others = [f for f in source.files if media.column_for(f.name) == "" and not is_about(f.name)]
    if not pictures:
        return []
    masks = paired(pictures)
    seconds = {f.name for columns in masks.values() for f in columns.values()}
    firsts = [f for f in pictures if f.name not in seconds]
    style, twins = _style_of(others, firsts)
    if not style and not masks:
        return []
    owned = [f for columns in twins.values() for f in columns]
    names = {f.name for f in owned}
    lists = [f for f in others if f.name not in names and _suffix(f) == "txt" and split_of_list(f.name)]
    firsts = in_lists(firsts, lists)
    classes = [f for f in others if f.name not in names and is_class_file(f)]
    rest = [f for f in others if f.name not in names and f not in classes and f not in lists]
    joined = [(f.name, "the objects of the image of the same name") for f in owned]
    joined += [(f.name, "names the classes") for f in classes]
    described = [(f.name, "a list of images") for f in lists]
    kept = (*firsts, *(p for p in pictures if p.name in seconds), *owned, *classes)
    if any(_names_one(f, firsts) for f in rest):
        return []
    _ask_about_lists(rest, firsts)
    over = [(f.name, "names none of the images") for f in rest]
    how = f"{len(twins)} with objects ({style})" if style else f"{len(masks)} with masks or targets"
    return [
        FormatClaim(
            AnnotatedImages(style),
            kept,
            1.0,
            f"{len(firsts)} images, {how}",
            kind="image",
            passed_over=tuple(over),
            described=tuple(described),
            joined=tuple(joined),
        )
    ]


def _names_one(file: SourceFile, pictures: Sequence[SourceFile]) -> bool:
    """Returns whether the first lines of a table contain the name of one of the images. Then the table may describe the
    images.
    """
    if _suffix(file) not in ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "xlsx"):
        return False
    head = io.head(file.path)
    return any(parts(f.name)[-1].encode() in head for f in pictures[:LOOKED_AT])


def _ask_about_lists(rest: Sequence[SourceFile], pictures: Sequence[SourceFile]) -> None:
    """Raises ChoiceNeededError for a list that states something about the images which would otherwise be lost."""
    spoken, joined = spoken_of(rest, pictures, lists_only=True)
    stated = next((values for f in pictures if (values := spoken.of(f.name))), {})
    if not stated:
        return
    named = ", ".join(sorted(joined)[:3])
    pattern = parts(sorted(joined)[0])[-1]
    raise ChoiceNeededError(
        f"{named} also states something about each image ({one_line(str(next(iter(stated.values()))), 40)}), which is not joined "
        "with the objects and masks of the images.",
        remedy=f"Leave it out: --exclude {pattern!r}",
    )


def _style_of(others: Sequence[SourceFile], pictures: Sequence[SourceFile]) -> tuple[str, dict[str, list[SourceFile]]]:
    """Returns the format of the annotation files, and for each image its annotation files. The format is "" if there
    are none.
    """
    folders: defaultdict[tuple[str, str], list[SourceFile]] = defaultdict(list)
    for file in others:
        folders[_suffix(file), "".join(parts(file.name)[-2:-1])].append(file)
    found: list[tuple[int, str, dict[str, list[SourceFile]]]] = []
    for (suffix, _), files in _joined(folders).items():
        twins = twins_of(files, pictures, _stem)
        named = [f for twin_files in twins.values() for f in twin_files]
        if not twins or len(twins) * 4 < len(pictures):
            continue
        sample = [named[at * len(named) // min(len(named), LOOKED_AT)] for at in range(min(len(named), LOOKED_AT))]
        heads = [head for f in sample if (head := io.head(f.path)).strip()]
        style = next((s for s in STYLES if suffix in s.suffixes and heads and all(map(s.fits, heads))), None)
        if style is not None:
            found.append((len(twins), style.name, twins))
    if found:
        _, name, twins = max(found, key=lambda item: item[0])
        return name, twins
    for file in (f for f in others if _suffix(f) == "xml"):
        head = io.head(file.path)
        if b"<image " in head and b"<annotations" in head:
            return _CVAT, {file.name: [file]}
    return "", {}


def _joined(folders: dict[tuple[str, str], list[SourceFile]]) -> dict[tuple[str, str], list[SourceFile]]:
    """Returns the files by extension and folder. If all folders of an extension are named like splits or classes,
    returns its files as one group.
    """
    by_suffix: defaultdict[tuple[str, str], list[SourceFile]] = defaultdict(list)
    for (suffix, _), files in folders.items():
        by_suffix[suffix, "*"] += files
    return {**by_suffix, **folders}
