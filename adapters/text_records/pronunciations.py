"""Reads pronunciations as those of CMUdict: one pronunciation for each row, with its word, its variant and its phones.

`word(2)` is the second pronunciation of a word. Lines that begin with `;;;` are comments. A comment after ` # ` is a column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all

_ENTRY = re.compile(r"(\S+?)(?:\((\d+)\))?[ \t]+((?:[A-Z]{1,3}[0-2]?[ \t]*)+)(?:#\s*(.*))?")


@dataclass(frozen=True)
class Pronunciations(LineRecords):
    """Reads pronunciations. A line that is not a pronunciation is rejected."""

    types: ClassVar[Mapping[str, pa.DataType]] = {
        "word": pa.string(),
        "variant": pa.int64(),
        "phones": pa.list_(pa.string()),
        "comment": pa.string(),
    }

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the pronunciations of a file."""
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith(";;;"):
                continue
            entry = _ENTRY.fullmatch(line)
            if entry is None:
                yield TextRecord(fault=f"line {number}: no word with its phones: {line[:80]!r}")
                continue
            word, variant, phones, comment = entry.groups()
            yield TextRecord(
                {
                    "word": word,
                    "variant": int(variant) if variant else 1,
                    "phones": phones.split(),
                    "comment": comment.strip() if comment else None,
                },
                2 * len(line),
            )


ADAPTER = Pronunciations


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of pronunciations."""
    return claim_all(source, Pronunciations(), "pronunciations", kind="tabular")
