"""Output of the command line: one JSON object per line for programs, escaped text for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import orjson

from choline_data.errors import CholineDataError, one_line
from choline_data.json_values import plain


def emit(value: dict[str, Any]) -> None:
    """Writes one JSON object on one line of standard output."""
    sys.stdout.write(orjson.dumps(plain(value)).decode() + "\n")


def report_error(error: CholineDataError, *, as_json: bool) -> None:
    """Writes the error on one line of standard error."""
    if as_json:
        body = {"error": {"reason": error.reason, "message": error.message, "remedy": error.remedy}}
        sys.stderr.write(orjson.dumps(body).decode() + "\n")
    else:
        sys.stderr.write(f"{error}\n")


def shown(value: Any, limit: int = 200) -> str:
    """Returns a value as text for people: on one line, with control characters escaped, shortened to `limit`."""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, list | tuple):
        return "[" + one_line(", ".join(shown(item, limit) for item in value[:8]), limit) + "]"
    if isinstance(value, dict):
        return (
            "{" + one_line(", ".join(f"{k}: {shown(v, limit)}" for k, v in value.items() if v is not None), limit) + "}"
        )
    return one_line(value, limit)


def size(count: float) -> str:
    """Returns a number of bytes with a unit, such as "1.5 MB"."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def counted(number: int, what: str) -> str:
    """Returns a number and a noun in singular or plural: "1 file", "20 files"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes a table in columns that are as wide as their longest cell."""
    widths = [max(len(h), *(len(r[i]) for r in rows)) if rows else len(h) for i, h in enumerate(headers)]
    for line in (headers, *rows):
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")
