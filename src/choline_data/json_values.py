"""Converts values of samples to values that JSON can represent."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
from typing import Any


def plain(value: Any) -> Any:
    """Converts the value to JSON types: bytes to base64, times to ISO 8601; decimals, durations, NaN and infinity to strings."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
