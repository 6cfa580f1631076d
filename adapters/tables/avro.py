"""Reads Apache Avro object container files with fastavro: one record for each row, in the types of the file's schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.reading.rows import SourceRows
from choline_data.adapters.tables.table_batches import claim_tables, local_file
from choline_data.errors import MissingDependencyError, SourceDamagedError, SourceFormatError, one_line


@dataclass(frozen=True)
class Avro:
    """Reads Avro files. Memory holds one block of a file at a time."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return [Shard(f.path, f.name, size=f.size) for f in in_order(files)]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the records from row `start` on."""
        rows = SourceRows(shard.origin)
        try:
            for number, (record, size) in enumerate(_records(shard)):
                if number < start:
                    continue
                if rows.full(size):
                    yield from rows.take()
                rows.add(number, record if isinstance(record, dict) else {"value": record}, size)
        except SourceDamagedError:
            yield from rows.take()
            raise
        yield from rows.take()


ADAPTER = Avro


def _records(shard: Shard) -> Iterator[tuple[Any, int]]:
    """Yields each record, with its approximate size: an equal part of the size of its block."""
    try:
        import fastavro
    except ModuleNotFoundError as error:
        raise MissingDependencyError("avro", "Reading Avro") from error
    try:
        with local_file(shard.path, shard.name) as path, open(path, "rb") as file:
            for block in fastavro.block_reader(file):
                size = block.size // max(block.num_records, 1)
                for record in block:
                    yield record, size
    except (ValueError, LookupError) as error:
        if "codec" in str(error).lower() or "install" in str(error).lower():
            raise SourceFormatError(
                f"{shard.name}: {one_line(error, 120)}.", remedy="Write it again with the codec deflate or null."
            ) from error
        raise _damage(shard, error) from error
    except (EOFError, OSError, TypeError, AttributeError, StopIteration) as error:
        raise _damage(shard, error) from error


def _damage(shard: Shard, error: Exception) -> SourceDamagedError:
    why = one_line(error, 120) or "it ends within a block"
    return SourceDamagedError(f"{shard.name}: not readable as Avro: {why}.", remedy="Fetch it again.")


def detect(source: Source) -> list[FormatClaim]:
    """Claims the Avro files."""
    return claim_tables(source, Avro(), "the content is Avro")
