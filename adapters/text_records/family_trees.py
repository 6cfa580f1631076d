"""Reads GEDCOM: one record for each row, such as a person or a family, with its id, its type and its lines.

Each line has its level, its tag, its id and its value. A value that goes on in further lines (CONT, CONC) is one value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all, damaged
from choline_data.errors import SourceFormatError, SourceTooLargeError

_LINE = re.compile(r"\s*(\d{1,2}) (?:(@[^@ ]+@) )?(\w+)(?: (.*))?")
_ENTRY = pa.struct([("level", pa.int64()), ("tag", pa.string()), ("value", pa.large_string())])


@dataclass(frozen=True)
class FamilyTrees(LineRecords):
    """Reads records of level 0. The header and the trailer are records too."""

    types: ClassVar[Mapping[str, pa.DataType]] = {
        "id": pa.string(),
        "type": pa.string(),
        "value": pa.large_string(),
        "lines": pa.list_(_ENTRY),
    }

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the records of a file. A file that does not end with the trailer is damaged."""
        record: dict[str, Any] = {}
        size, level, ansel = 0, -1, False
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            match = _LINE.fullmatch(line.lstrip("\ufeff"))
            if match is None or int(match[1]) > level + 1:
                raise damaged(shard.name, f"line {number} is no line of GEDCOM: {line[:60]!r}")
            level, tag, value = int(match[1]), match[3], match[4] or ""
            if ansel and not line.isascii():
                raise SourceFormatError(
                    f"{shard.name} is in the encoding ANSEL, which is not supported.",
                    remedy="Convert it to UTF-8 with a program for family trees, such as Gramps.",
                )
            size += len(line)
            if size > MAX_ROW_BYTES:
                raise SourceTooLargeError(
                    f"{shard.name}: a record is above {MAX_ROW_BYTES:,} characters.", remedy="Is it GEDCOM?"
                )
            if not level:
                if record:
                    yield TextRecord(record, 2 * size)
                record, size = {"id": match[2], "type": tag, "value": value or None, "lines": []}, 0
            elif tag in ("CONT", "CONC"):
                parent = next((entry for entry in reversed(record["lines"]) if entry["level"] == level - 1), record)
                parent["value"] = (parent["value"] or "") + ("\n" if tag == "CONT" else "") + value
                level -= 1
            else:
                ansel = ansel or (tag == "CHAR" and value.strip() == "ANSEL" and not self.encoding)
                record["lines"].append({"level": level, "tag": tag, "value": value})
        if record.get("type") != "TRLR":
            raise damaged(shard.name, "it ends before its trailer (0 TRLR)")
        yield TextRecord(record, size)


ADAPTER = FamilyTrees


def detect(source: Source) -> list[FormatClaim]:
    """Claims the GEDCOM files."""
    return claim_all(source, FamilyTrees(), "records of family trees", kind="tabular")
