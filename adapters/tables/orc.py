"""Reads Apache ORC by stripes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import orc

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import batches
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.errors import SourceDamagedError, one_line


@dataclass(frozen=True)
class Orc:
    """Reads ORC files. Memory holds one stripe at a time."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from row `start` on."""
        return batch_chunks(_stripes(shard), shard, start)


ADAPTER = Orc


def _stripes(shard: Shard) -> Iterator[pa.RecordBatch]:
    with local_file(shard.path, shard.name) as path:
        try:
            file = orc.ORCFile(path)
            batches.check_columns(file.schema, shard.name)
            for number in range(file.nstripes):
                yield file.read_stripe(number)
        except (pa.ArrowException, OSError) as error:
            raise SourceDamagedError(
                f"{shard.name}: not readable as ORC: {one_line(error, 160)}.", remedy="Fetch it again."
            ) from error


def detect(source: Source) -> list[FormatClaim]:
    """Claims the ORC files."""
    return claim_tables(source, Orc(), "the content is ORC")
