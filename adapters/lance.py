"""Reads Lance datasets with pylance: the version that is newest when the source is added, one shard for each fragment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import (
    BATCH_ROWS,
    FormatClaim,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
    chunk_of,
    from_row,
)
from choline_data.errors import MissingDependencyError, SourceDamagedError, one_line


@dataclass(frozen=True)
class Lance:
    """Reads the rows of a version, fragment by fragment. Version 0 means the newest."""

    root: str = ""
    version: int = 0

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each fragment."""
        data = _dataset(self.root, self.version)
        name = self.root.rstrip("/").rsplit("/", 1)[-1]
        return [Shard(self.root, name, member=str(f.fragment_id)) for f in data.get_fragments()]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the fragment's rows from `start` on."""
        return from_row(start, self._chunks(shard))

    def _chunks(self, shard: Shard) -> Iterator[SourceChunk]:
        row = 0
        try:
            fragment = _dataset(shard.path, self.version).get_fragment(int(shard.member))
            for batch in fragment.to_batches(batch_size=BATCH_ROWS):
                batch.validate(full=True)
                yield chunk_of(batch, row)
                row += batch.num_rows
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise SourceDamagedError(f"{shard.name}: {one_line(error, 160)}.", remedy="Fetch it again.") from error


ADAPTER = Lance


def _dataset(root: str, version: int = 0) -> Any:
    try:
        import lance
    except ImportError as error:
        raise MissingDependencyError("lance", "Reading Lance datasets") from error
    try:
        return lance.dataset(root, version=version or None)
    except (OSError, ValueError) as error:
        raise SourceDamagedError(f"{root}: {one_line(error, 160)}.", remedy="Fetch it again.") from error


def detect(source: Source) -> list[FormatClaim]:
    """Returns a claim for each folder with `_versions/*.manifest`. Raises MissingDependencyError if pylance is not installed."""
    claims = []
    manifests = [f for f in source.files if re.search(r"(?:^|/)_versions/[^/]+\.manifest$", f.name)]
    for prefix in sorted({f.name[: f.name.rindex("_versions/")] for f in manifests}):
        first = next(f for f in manifests if f.name.startswith(prefix + "_versions/"))
        root = first.path[: first.path.rindex("_versions/")]
        version = int(_dataset(root).version)
        files = tuple(f for f in source.files if f.name.startswith(prefix))
        claims.append(FormatClaim(Lance(root, version), files, 1.0, f"a Lance dataset at {prefix or 'the root'}"))
    return claims
