"""Reads access logs of web servers (Common Log Format, and the combined one): one request for each row.

`time` is the time as written; `-` is a missing value. A line in another format is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_REQUEST = re.compile(
    rf"(\S+) (\S+) (.{{1,200}}?) \[([^\]]{{10,60}})\] {_QUOTED} (\d{{3}}|-) (\d+|-)(?: {_QUOTED} {_QUOTED}(.*))?\s*"
)
_NAMES = ("host", "identity", "user", "time", "request", "status", "bytes", "referrer", "user_agent", "more")
_NUMBERS = ("status", "bytes")


@dataclass(frozen=True)
class AccessLogs(LineRecords):
    """Reads one request for each line of a log."""

    types: ClassVar[Mapping[str, pa.DataType]] = {
        name: pa.int64() if name in _NUMBERS else pa.string() for name in _NAMES
    }

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the requests of a file."""
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            match = _REQUEST.fullmatch(line)
            if match is None:
                yield TextRecord(fault=f"line {number}: not in the Common Log Format: {line[:80]!r}")
                continue
            values: dict[str, Any] = dict(zip(_NAMES, match.groups(), strict=True))
            values = {name: None if value in ("-", "", None) else value for name, value in values.items()}
            values |= {name: int(values[name]) if values[name] else None for name in _NUMBERS}
            yield TextRecord(values, 2 * len(line))


ADAPTER = AccessLogs


def detect(source: Source) -> list[FormatClaim]:
    """Claims the access logs."""
    return claim_all(source, AccessLogs(), "requests to a web server", kind="tabular")
