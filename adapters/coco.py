"""Reads COCO JSON: result arrays with one sample for each result, and annotation files with one sample for each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading.documents import chunks_of, document, json_files
from choline_data.adapters.reading.io import open_raw
from choline_data.errors import SourceFormatError

_RESULT_KEYS = ("category_id", "caption", "keypoints", "bbox", "segmentation")
_IMAGE = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
_AT_ONCE = 64


@dataclass(frozen=True)
class Coco:
    """Reads a row for each result, or for each image with its annotations, category names and captions."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each JSON file. Each shard also lists all images of the source."""
        pictures = tuple(f for f in files if ".json" not in f.name)
        return [Shard(f.path, f.name, size=f.size, files=pictures) for f in files if ".json" in f.name]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the results or images from `start` on."""
        value = document(shard.path, shard.name)
        if isinstance(value, list):
            yield from chunks_of(value, shard.origin, start=start)
            return
        if not _is_annotations(value):
            raise SourceFormatError(
                f"{shard.name}: this is not a COCO file.", remedy="Give images and annotations as lists."
            )
        rows = _images(value)
        if not shard.files:
            yield from chunks_of(rows, shard.origin, start=start)
            return
        places = {f.name: f for f in shard.files} | {f.name.rsplit("/", 1)[-1]: f for f in shard.files}
        for first in range(0, len(rows), _AT_ONCE):
            part = rows[first : first + _AT_ONCE]
            if first + len(part) <= start:
                continue
            for chunk in chunks_of(part, shard.origin, start=max(0, start - first)):
                names = [part[i].get("file_name") for i in chunk.rows]
                column = pa.array([_picture(places.get(str(n)), n) for n in names], _IMAGE)
                batch = chunk.batch.add_column(0, pa.field("image", _IMAGE), column)
                yield SourceChunk(batch, chunk.rows + first, chunk.rejects)


ADAPTER = Coco


def detect(source: Source) -> list[FormatClaim]:
    """Returns a claim for result files, and one for annotation files with the images that they name."""
    documents = list(json_files(source, r'"(?:image_id|images|annotations)"\s*:'))
    results = tuple(f for f, value in documents if _is_results(value))
    noted = [(f, value) for f, value in documents if _is_annotations(value)]
    claims = []
    if results:
        claims.append(
            FormatClaim(Coco(), results, 1.0, "COCO results: image_id with boxes or captions", kind="annotation")
        )
    if noted:
        names = {str(i.get("file_name")) for _, value in noted for i in value["images"]}
        pictures = [f for f in source.files if f.name in names or f.name.rsplit("/", 1)[-1] in names]
        files = (*(f for f, _ in noted), *pictures)
        claims.append(
            FormatClaim(Coco(), files, 1.0, "COCO annotations joined to images by image_id", kind="annotation")
        )
    return claims


def _is_results(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(r, dict) and "image_id" in r and any(k in r for k in _RESULT_KEYS) for r in value[:8])
    )


def _is_annotations(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    lists = [value.get("images"), value.get("annotations")]
    return all(isinstance(v, list) and all(isinstance(i, dict) for i in v) for v in lists) and all(
        "id" in i for i in value["images"]
    )


def _images(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the images in file order, each with its annotations. Annotations of an unknown image form a row of their own."""
    names = {c.get("id"): c.get("name") for c in value.get("categories") or [] if isinstance(c, dict)}
    notes: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for note in value["annotations"]:
        kind = {"category": names[note["category_id"]]} if note.get("category_id") in names else {}
        notes[note.get("image_id")].append({**note, **kind})
    rows = []
    for image in value["images"]:
        annotations = notes.pop(image["id"], [])
        captions = [n["caption"] for n in annotations if isinstance(n.get("caption"), str)]
        rows.append({**image, "annotations": annotations, **({"captions": captions} if captions else {})})
    rows += [{"id": key, "annotations": annotations} for key, annotations in notes.items()]
    return rows


def _picture(file: SourceFile | None, name: Any) -> dict[str, Any] | None:
    if file is None or file.size > MAX_ROW_BYTES:
        return None if file is None else {"bytes": None, "path": file.name}
    with open_raw(file.path) as opened:
        return {"bytes": opened.read(), "path": file.name}
