"""Reads COCO JSON: result arrays with one sample for each result, and annotation files with one sample for each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Reject, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import media, members
from choline_data.adapters.reading.coco_images import CocoImages, is_annotations, masks_among, names_of, pictures_of
from choline_data.adapters.reading.documents import chunks_of, document, json_files
from choline_data.adapters.reading.media import MAX_MEDIUM_BYTES, MEDIUM
from choline_data.columns.arrow_values import array_of
from choline_data.errors import SourceFormatError

_RESULT_KEYS = ("category_id", "caption", "keypoints", "bbox", "segmentation")
_AT_ONCE = 64


@dataclass(frozen=True)
class Coco:
    """Reads one row for each result, or for each image with its annotations, category names, captions and panoptic
    mask.

    If an annotation file names a picture that does not exist, the row is rejected.
    """

    max_bytes: int = MAX_MEDIUM_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each JSON file. If there are pictures, the files of one split are one shard, with the pictures."""
        pictures = tuple(f for f in files if ".json" not in f.name)
        notes = [f for f in files if ".json" in f.name]
        if not pictures:
            return [Shard(f.path, f.name, size=f.size) for f in notes]
        groups: dict[tuple[str, str], list[SourceFile]] = {}
        for file in notes:
            groups.setdefault((file.config, file.split), []).append(file)
        return [
            Shard(g[0].path, g[0].name, size=sum(f.size for f in g), files=(*g, *pictures)) for g in groups.values()
        ]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the results or images from `start` on."""
        notes = [f for f in shard.files if ".json" in f.name] or [SourceFile(shard.path, shard.name)]
        if len(notes) == 1:
            value = document(shard.path, shard.name)
            if isinstance(value, list):
                yield from chunks_of(value, shard.origin, start=start)
                return
            if not is_annotations(value):
                raise SourceFormatError(
                    f"{shard.name} is not a COCO file.", remedy="Give images and annotations as lists."
                )
        pictures = [f for f in shard.files if media.column_for(f.name)]
        images = CocoImages(notes, pictures)
        if not pictures:
            yield from chunks_of(images.rows, shard.origin, start=start)
            return
        for first in range(0, len(images.rows), _AT_ONCE):
            if first + _AT_ONCE > start:
                yield from self._piece(images, first, max(start, first), shard)

    def _piece(self, images: CocoImages, first: int, start: int, shard: Shard) -> Iterator[SourceChunk]:
        """Yields at most _AT_ONCE rows with their pictures and masks, so that their bytes stay bounded."""
        end = first + _AT_ONCE
        files = [f for f in (*images.pictures[start:end], *images.masks[start:end]) if f is not None]
        data = {f.path: content for f, content in members.contents(files, self.max_bytes, inflate=False)}
        for chunk in chunks_of(images.rows[first:end], shard.origin, start=start - first):
            rows = chunk.rows + first
            faults = {row: self._fault(images, row, data) for row in rows.tolist()}
            kept = np.array([at for at, row in enumerate(rows.tolist()) if not faults[row]], np.int64)
            rejects = [Reject(shard.origin, row, why) for row, why in faults.items() if why]
            batch = chunk.batch.take(array_of(kept)) if rejects else chunk.batch
            batch = batch.add_column(0, pa.field("image", MEDIUM), _media(images.pictures, rows[kept], data))
            if any(images.masks):
                batch = batch.add_column(1, pa.field("mask", MEDIUM), _media(images.masks, rows[kept], data))
            yield SourceChunk(
                batch, rows[kept], tuple(replace(r, row=r.row + first) for r in chunk.rejects) + tuple(rejects)
            )

    def _fault(self, images: CocoImages, row: int, data: dict[str, bytes | None]) -> str:
        picture = images.pictures[row]
        if picture is None:
            names = names_of(images.rows[row])
            return f"{names[0]!r} is not there, or is there several times" if names else "its image is not listed"
        for file in filter(None, (picture, images.masks[row])):
            content = data[file.path]
            fault = media.probe(content, "image").fault if content is not None else f"above {self.max_bytes:,} bytes"
            if fault:
                return f"{file.name}: {fault}"
        return ""


ADAPTER = Coco


def _media(files: Sequence[SourceFile | None], rows: Any, data: dict[str, bytes | None]) -> pa.Array:
    found = [files[row] for row in rows.tolist()]
    return pa.array([None if f is None else {"bytes": data[f.path], "path": f.name} for f in found], MEDIUM)


def detect(source: Source) -> list[FormatClaim]:
    """Returns a claim for result files, and one for annotation files with the images that they name."""
    found = list(json_files(source, r'"(?:image_id|images|annotations|info|licenses|categories)"\s*:'))
    results = tuple(f for f, value in found if _is_results(value))
    noted = [(f, value) for f, value in found if is_annotations(value)]
    claims = []
    if results:
        claims.append(
            FormatClaim(Coco(), results, 1.0, "COCO results: image_id with boxes or captions", kind="annotation")
        )
    if noted:
        pictures = [f for f in source.files if media.column_for(f.name) == "image"]
        masks = {f.name for mask_files in masks_among([f for f, _ in noted], pictures).values() for f in mask_files}
        others = [f for f in pictures if f.name not in masks]
        named = masks | {f.name for file, value in noted for f in pictures_of(value, file, others)}
        files = (*(f for f, _ in noted), *(f for f in pictures if f.name in named))
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
