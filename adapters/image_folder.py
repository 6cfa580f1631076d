"""Reads folders of images: with classes by folder, with a metadata file, with masks, or without labels.

- A metadata file (`metadata.csv`, `metadata.jsonl`, as on the Hub) names an image in `file_name`. Its other columns become
  columns. Images that it does not name are also read, with nulls.
- Masks `<image>_<class>_<n>.png` are rows of their own, with the class as label and the image in `mask_of`.
- A text with the name of an image is its caption.
- Names that follow a scheme (`beside/naming_schemes.py`), such as `cat.17` or those of Market-1501, state the label.
- Otherwise the folders are the label (`cats/tabby`). The folders above the deepest one also become `folder_1`, `folder_2`, ….
- A folder named train, test, validation … is the split and never a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.beside.class_files import names_classes
from choline_data.adapters.beside.list_columns import PARTITION
from choline_data.adapters.beside.naming_schemes import scheme_of, values_in, with_parts
from choline_data.adapters.beside.transcripts import COLUMNS, Spoken, is_prose, may_be_list, spoken_of, stem_of_sidecar
from choline_data.adapters.reading import io, media, members
from choline_data.adapters.reading.folder_metadata import is_metadata, metadata_of, placed
from choline_data.adapters.reading.media import MAX_MEDIUM_BYTES
from choline_data.adapters.reading.media_paths import path_of
from choline_data.adapters.reading.names import class_folders, in_order, is_about, labels_in, parts, shared_folders
from choline_data.adapters.reading.rows import SourceRows, file_shards
from choline_data.adapters.reading.split_lists import in_lists
from choline_data.adapters.reading.twins import known_stem, twins_of, without_microphone
from choline_data.errors import ChoiceNeededError

SHARE = 0.5
NAMES = "names:"


@dataclass(frozen=True)
class ImageFolder:
    """Reads one image for each row, without decoding it. `labels="none"` takes no classes from folders."""

    labels: str = "folders"  # one of: folders, masks, captions, none, names:SCHEME, captions:SCHEME
    max_bytes: int = MAX_MEDIUM_BYTES
    columns: tuple[str, ...] = ()  # the lists with several values for each picture

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns groups of images by split, in order of name. Each shard also has the metadata files."""
        shards = media_shards(files, "image")
        return [only_beside(shard, "image") for shard in shards] if self.labels.startswith("captions") else shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the images of the shard. Files that are not images, or are too large, are rejected."""
        how, _, scheme = self.labels.partition(":")
        if how != "captions":
            return read_media(shard, "image", start, self.max_bytes, self._values)
        pictures = tuple(f for f in shard.files if media.column_for(f.name) == "image")
        texts = [f for f in shard.files if media.column_for(f.name) != "image"]
        spoken, _ = spoken_of(texts, pictures, columns=self.columns or None)

        def values(file: SourceFile, folders: list[str]) -> dict[str, Any]:
            stated = spoken.of(file.name)
            values = {key: value for key, value in stated.items() if key not in ("transcription", PARTITION)}
            if "captions" not in values and ("transcription" in stated or not values):
                values["caption"] = stated.get("transcription")
            if scheme and "label" not in values:
                values |= {"label": None, **values_in(file.name, scheme)}
            elif self.columns and "label" not in values and (classes := labels_in(folders, file)):
                values["label"] = "/".join(classes)
            return {**values, "folder": "/".join(folders) or None}

        return read_media(replace(shard, files=pictures), "image", start, self.max_bytes, values)

    def _values(self, file: SourceFile, folders: list[str]) -> dict[str, Any]:
        if self.labels == "masks":
            return _mask_values(file)
        if self.labels.startswith(NAMES):
            return {"label": None, **values_in(file.name, self.labels.removeprefix(NAMES))}
        folders = labels_in(folders, file)
        if self.labels == "none" or not folders:
            return {}
        above = {f"folder_{level}": name for level, name in enumerate(folders[:-1], 1)}
        return {"label": "/".join(folders), **above}


ADAPTER = ImageFolder


def media_shards(files: Sequence[SourceFile], column: str) -> list[Shard]:
    """Returns shards of the media among `files`, split by split. Each shard also has all files that are not media of
    this column.

    `Shard.start` is the number of leading folders that all media share. It depends on all files, not only on the shard's.
    """
    found = in_order(f for f in files if media.column_for(f.name) == column)
    beside = tuple(f for f in files if media.column_for(f.name) != column)
    shared = shared_folders(found)
    return [
        replace(shard, files=shard.files + beside, start=shared, config=config)
        for config, split in sorted({(f.config, f.split) for f in found}, key=_place)
        for shard in file_shards([f for f in found if (f.config, f.split) == (config, split)], split)
    ]


def only_beside(shard: Shard, column: str) -> Shard:
    """Returns the shard without files that only describe media of other shards.

    Such a file is in a folder that has media, but none of this shard, or it has the name of such a medium.
    """
    clips = [f for f in shard.files if media.column_for(f.name) == column]
    own = {path_of(f.name)[-1] for f in clips}
    stems = own | set(map(without_microphone, own))
    kept = [
        f
        for f in shard.files
        if media.column_for(f.name) != column
        and (known_stem(stem_of_sidecar(f.name), stems) in stems or may_be_list(f.name))
    ]
    return replace(shard, files=(*clips, *kept))


def _place(part: tuple[str, str]) -> tuple[str, int, str]:
    config, split = part
    usual = ("train", "validation", "test", "")
    return config, usual.index(split) if split in usual else len(usual), split


def read_media(
    shard: Shard,
    column: str,
    start: int,
    max_bytes: int,
    values_of: Callable[[SourceFile, list[str]], dict[str, Any]],
) -> Iterator[SourceChunk]:
    """Yields the media of a shard as rows: the media column, and the columns of the metadata. Without metadata,
    `values_of` gives the other columns.
    """
    found = [f for f in shard.files if media.column_for(f.name) == column]
    described = metadata_of([f for f in shard.files if media.column_for(f.name) != column], column)
    rows = SourceRows(shard.origin, {column: media.MEDIUM, **(dict.fromkeys(described.columns))})
    wanted = found[start:]
    for number, (file, data) in enumerate(members.contents(wanted, max_bytes, inflate=False), start):
        if rows.full(len(data or b"")):
            yield from rows.take()
        if data is None:
            rows.reject(number, f"above {max_bytes:,} bytes (max_bytes)", file.name)
            continue
        probe = media.probe(data, column)
        if probe.fault:
            rows.reject(number, probe.fault, file.name)
            continue
        folders = class_folders(file, shard.start)
        extra = described.rows.get(placed(file.name)) if described.columns else None
        values = dict(extra) if extra is not None else {} if described.columns else values_of(file, folders)
        values[column] = {"bytes": data, "path": file.name}
        rows.add(number, values, len(data), file.name)
    yield from rows.take()


def _mask_values(file: SourceFile) -> dict[str, Any]:
    stem = parts(file.name)[-1].rsplit(".", 1)[0]
    pieces = stem.rsplit("_", 2)
    if len(pieces) == 3 and pieces[2].isdigit():
        return {"label": pieces[1], "mask_of": pieces[0]}
    return {"label": None, "mask_of": None}


def detect(source: Source) -> list[FormatClaim]:
    """Claims the images of a source. Claims nothing if the source has more than half as many other data files as images."""
    pictures = [f for f in source.files if media.column_for(f.name) == "image"]
    others = [f for f in source.files if media.column_for(f.name) != "image" and not is_about(f.name)]
    metadata = [f for f in others if is_metadata(f.name)]
    captions = [] if metadata else _captions(pictures, others)
    spoken, lists = Spoken(), dict[str, str]()
    if pictures and not metadata and not captions:
        spoken, lists = spoken_of(others, pictures, lists_only=True, columns=())
        spoken.refuse_unlike(pictures)
        spoken.refuse_numbers(pictures, lists)
    shared = shared_folders(pictures)
    folders = {folder.lower() for f in pictures for folder in class_folders(f, shared)}
    classes = [f for f in others if f.name not in lists and names_classes(f, folders)]
    left = len(others) - len(metadata) - len(captions) - len(lists) - len(classes)
    if not pictures or left > len(pictures) * SHARE:
        return []
    stated = [f for f in pictures if spoken.of(f.name)]
    pictures = in_lists(pictures, [f for f in others if f.name in lists])
    pictures = [replace(f, split=str(spoken.of(f.name).get(PARTITION, f.split))) for f in pictures]
    labels = "captions" if captions or stated else _how_labelled(pictures)
    scheme = "" if metadata or captions else _scheme(labels, pictures, spoken, shared)
    if scheme and labels == "captions":
        labels = f"captions:{scheme}"
    elif scheme:
        labels, pictures = f"{NAMES}{scheme}", with_parts(pictures, scheme)
    _ask_about_classes(stated, pictures, sorted(lists))
    kept = (*pictures, *metadata, *captions, *(f for f in others if f.name in lists))
    joined = [(f.name, "names the pictures") for f in metadata]
    joined += [(f.name, "the caption of the picture of the same name") for f in captions]
    joined += [(name, why.replace("clips", "pictures")) for name, why in lists.items()]
    passed = tuple((f.name, "tells about the data") for f in source.files if is_about(f.name))
    how = {
        "folders": "classes by folder",
        "masks": "pictures and masks",
        "captions": f"{len(captions) or len(stated)} captions or classes",
        "none": "a folder of pictures",
    }.get(labels.removesuffix(f":{scheme}"), f"labels in the names ({scheme})")
    evidence = f"{len(pictures)} pictures, " + ("a metadata file" if metadata else how)
    return [
        FormatClaim(
            ImageFolder(labels, columns=tuple(sorted(name for name, why in lists.items() if why == COLUMNS))),
            kept,
            1.0,
            evidence,
            kind="image",
            passed_over=passed,
            described=tuple((f.name, "names the classes") for f in classes),
            joined=tuple(joined),
        )
    ]


def _scheme(labels: str, pictures: Sequence[SourceFile], spoken: Spoken, shared: int) -> str:
    """Returns the scheme of the names of pictures, if neither masks nor lists state their classes. Otherwise ""."""
    if labels == "masks" or (labels == "captions" and any("label" in spoken.of(f.name) for f in pictures[:1])):
        return ""
    return scheme_of(pictures, in_classes=any(labels_in(class_folders(f, shared), f) for f in pictures))


def _ask_about_classes(stated: Sequence[SourceFile], pictures: Sequence[SourceFile], lists: Sequence[str]) -> None:
    """Raises ChoiceNeededError if lists state labels for only a part of the pictures."""
    if stated and len(stated) < len(pictures):
        last = parts(lists[0])[-1]
        raise ChoiceNeededError(
            f"{', '.join(lists[:3])}: the lists state something about {len(stated):,} of {len(pictures):,} pictures, such as "
            f"{stated[0].name}.",
            remedy=f"Choose: --exclude {last!r} (labels by folders only) | --include FOLDER (whose pictures are all listed)",
        )


def _captions(pictures: Sequence[SourceFile], others: Sequence[SourceFile]) -> list[SourceFile]:
    """Returns the texts with the names of pictures, if most pictures have one and the texts are prose."""
    texts = [f for f in others if media.suffix_of(f.name) in ("txt", "caption")]
    twins = twins_of(texts, pictures, stem_of_sidecar)
    found = [file for files in twins.values() for file in files]
    if len(twins) * 2 < len(pictures) or not all(map(_is_prose, found[:8])):
        return []
    return found


def _is_prose(file: SourceFile) -> bool:
    return is_prose(io.head(file.path, 1024).decode("utf-8", "replace"))


def _how_labelled(pictures: Sequence[SourceFile]) -> str:
    stems = {parts(f.name)[-1].rsplit(".", 1)[0] for f in pictures}
    masks = [s for s in stems if s.count("_") >= 2 and s.rsplit("_", 2)[0] in stems and s.rsplit("_", 1)[1].isdigit()]
    if masks and len(masks) >= len(stems) / 4:
        return "masks"
    # A folder that all images share does not distinguish classes.
    shared = shared_folders(pictures)
    return "folders" if any(labels_in(class_folders(f, shared), f) for f in pictures) else "none"
