"""Removes duplicates on request: exact ones by id, near ones by MinHash over words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data import schema as one
from choline_data.errors import MissingDependencyError
from choline_data.places.home import Home
from choline_data.store import BlockFile, BlockWriter, Manifest, StoredFile

PERMUTATIONS = 128
THRESHOLD = 0.8
BANDS = 16
SHINGLE_WORDS = 5


def _blocks(home: Home, manifest: Manifest, file: StoredFile) -> Iterator[pa.RecordBatch]:
    opened = BlockFile(home, file.sha256, one.stored_schema(manifest.columns), file.bytes)
    yield from (opened.block(number) for number in range(len(opened)))


def _exact(home: Home, manifest: Manifest) -> npt.NDArray[np.bool_]:
    """Returns a mask of the samples to keep: the first sample of each id, in source order."""
    ids = [
        np.frombuffer(block["id"].buffers()[1], "V16", block.num_rows, block["id"].offset * 16).copy()
        for file in manifest.files
        for block in _blocks(home, manifest, file)
    ]
    every = np.concatenate(ids) if ids else np.empty(0, "V16")
    keep = np.zeros(len(every), dtype=bool)
    # Sort the two halves as integers, because NumPy can't sort void values.
    halves = every.view("<u8").reshape(-1, 2)
    order = np.lexsort((np.arange(len(every)), halves[:, 0], halves[:, 1]))
    ordered = halves[order]
    first = np.ones(len(every), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    keep[order[first]] = True
    return keep


def _near(home: Home, manifest: Manifest) -> npt.NDArray[np.bool_]:
    """Returns a mask of the samples to keep: those without a near duplicate before them. Near duplicates have a Jaccard
    similarity of word 5-grams of at least THRESHOLD.
    """
    try:
        from rensa import RMinHash
    except ModuleNotFoundError as error:
        raise MissingDependencyError("dedup", "Removing near duplicates") from error
    from choline_data.streams.rendering import render

    keep = _exact(home, manifest)
    bands: dict[bytes, list[int]] = {}
    signatures: list[npt.NDArray[np.uint32] | None] = []
    row = 0
    per_band = PERMUTATIONS // BANDS
    for file in manifest.files:
        for block in _blocks(home, manifest, file):
            for text in render(block, kind=manifest.constants.get("kind", "text")).to_pylist():
                words = (text or "").split()
                signature = None
                if keep[row] and len(words) >= SHINGLE_WORDS:
                    sketch = RMinHash(num_perm=PERMUTATIONS, seed=42)
                    sketch.update(
                        [" ".join(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1)]
                    )
                    signature = np.asarray(sketch.digest(), dtype=np.uint32)
                    keys = [bytes([b]) + signature[b * per_band : (b + 1) * per_band].tobytes() for b in range(BANDS)]
                    likely = {other for key in keys for other in bands.get(key, ())}
                    if any(np.mean(signatures[o] == signature) >= THRESHOLD for o in likely):
                        keep[row] = False
                        signature = None
                    else:
                        for key in keys:
                            bands.setdefault(key, []).append(row)
                signatures.append(signature)
                row += 1
    return keep


def without_duplicates(home: Home, manifest: Manifest, *, near: bool, compression: str) -> tuple[Manifest, int]:
    """Returns the manifest without duplicates, and the number of removed samples. Files that lose rows are rewritten."""
    keep = _near(home, manifest) if near else _exact(home, manifest)
    if keep.all():
        return manifest, 0
    schema = one.stored_schema(manifest.columns)
    files: list[StoredFile] = []
    at = 0
    for file in manifest.files:
        mine = keep[at : at + file.rows]
        at += file.rows
        if mine.all():
            files.append(file)
            continue
        writer = BlockWriter(home, schema, manifest.block_rows, compression=compression or None)
        row = 0
        for block in _blocks(home, manifest, file):
            unique = block.filter(pa.array(mine[row : row + block.num_rows]))
            row += block.num_rows
            if unique.num_rows:
                writer.write(unique)
        done = writer.close()
        if done is not None:
            files.append(StoredFile(done.sha256, done.rows, done.bytes, file.source, file.split, file.config))
    removed = int(len(keep) - keep.sum())
    return Manifest(tuple(files), manifest.columns, manifest.block_rows, manifest.constants, manifest.about), removed
