"""How the command line shows things: one JSON object a line for programs, escaped text for people."""

from __future__ import annotations

import sys
from typing import Any

import orjson

from choline_data.errors import CholineDataError, one_line
from choline_data.json_values import plain


def emit(value: dict[str, Any]) -> None:
    """One JSON object on a line of standard output."""
    sys.stdout.write(orjson.dumps(plain(value)).decode() + "\n")


def report_error(error: CholineDataError, *, as_json: bool) -> None:
    """The error on one line of standard error."""
    if as_json:
        body = {"error": {"reason": error.reason, "message": error.message, "remedy": error.remedy}}
        sys.stderr.write(orjson.dumps(body).decode() + "\n")
    else:
        sys.stderr.write(f"{error}\n")


def shown(value: Any, limit: int = 200) -> str:
    """A value as a person reads it: one line, control characters escaped, cut."""
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
    """Bytes as people write them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def counted(number: int, what: str) -> str:
    """So many of these: "1 file", "20 files"."""
    return f"{number:,} {what}{'s' * (number != 1)}"
