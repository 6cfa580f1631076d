"""Reads TOML: finds the rows as in a JSON document, such as the tables of an array `[[rows]]`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.json_document import rows_of
from choline_data.adapters.text_records.line_records import claim_all, lines_of, rows_in_chunks, shards_of
from choline_data.errors import SourceDamagedError, SourceTooLargeError, one_line

MAX_CHARS = 16 << 20


@dataclass(frozen=True)
class TomlDocument:
    """Reads TOML files. Dates and times become text in ISO 8601."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows of the file from row `start` on."""
        return rows_in_chunks(rows_of(_document(shard, self.encoding)), shard, start)


ADAPTER = TomlDocument


def _document(shard: Shard, encoding: str) -> Any:
    text = "\n".join(lines_of(shard, encoding))
    if len(text) > MAX_CHARS:
        raise SourceTooLargeError(f"{shard.name}: TOML of more than {MAX_CHARS >> 20} MiB.", remedy="Split the file.")
    try:
        return _plain(tomllib.loads(text + "\n"))
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise SourceDamagedError(
            f"{shard.name}: not TOML ({one_line(error, 120)}).", remedy="Correct the file."
        ) from error


def _plain(value: Any) -> Any:
    """Returns the value with dates and times as text."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def detect(source: Source) -> list[FormatClaim]:
    """Claims the TOML files."""
    return claim_all(source, TomlDocument(), "TOML documents")
