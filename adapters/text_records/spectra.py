"""Reads MGF: one spectrum for each row, with its peaks as lists and a column for each parameter, such as `title` or `pepmass`.

Parameters are text, in lower case. Those above the first spectrum hold for all spectra that do not state them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all, damaged
from choline_data.errors import SourceTooLargeError

_COMMENTS = ("#", ";", "!", "/")


@dataclass(frozen=True)
class Spectra(LineRecords):
    """Reads spectra. A spectrum with a peak that is not a number is rejected."""

    types: ClassVar[Mapping[str, pa.DataType]] = {
        "title": pa.string(),
        "mz": pa.list_(pa.float64()),
        "intensity": pa.list_(pa.float64()),
        "peak_charges": pa.list_(pa.string()),
    }

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the spectra of a file."""
        shared: dict[str, str] = {}
        block: list[str] | None = None
        size = 0
        for number, line in enumerate(map(str.strip, lines), 1):
            if not line or line.startswith(_COMMENTS):
                continue
            size += len(line)
            if size > MAX_ROW_BYTES:
                raise SourceTooLargeError(
                    f"{shard.name}: a spectrum is above {MAX_ROW_BYTES:,} characters.", remedy="Is END IONS missing?"
                )
            if line == "BEGIN IONS":
                if block is not None:
                    raise damaged(shard.name, f"line {number}: a spectrum begins within another one")
                block, size = [], 0
            elif line == "END IONS" and block is not None:
                yield _spectrum(block, shared, size)
                block, size = None, 0
            elif block is not None:
                block.append(line)
            elif "=" in line:
                key, _, value = line.partition("=")
                shared[key.strip().lower()] = value.strip()
        if block is not None:
            raise damaged(shard.name, "it ends within a spectrum, before END IONS")


ADAPTER = Spectra


def _spectrum(block: list[str], shared: Mapping[str, str], size: int) -> TextRecord:
    values: dict[str, Any] = {**shared}
    peaks: list[list[str]] = []
    for line in block:
        key, sign, value = line.partition("=")
        if sign and not line[0].isdigit():
            values[key.strip().lower()] = value.strip()
        else:
            peaks.append(line.split())
    try:
        values["mz"] = [float(peak[0]) for peak in peaks]
        values["intensity"] = [float(peak[1]) if len(peak) > 1 else None for peak in peaks]
    except ValueError:
        return TextRecord(fault="a peak that is no number")
    values["peak_charges"] = [peak[2] if len(peak) > 2 else None for peak in peaks] if any(
        len(peak) > 2 for peak in peaks) else None  # fmt: skip
    return TextRecord(values, 4 * size)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the MGF files."""
    return claim_all(source, Spectra(), "spectra", kind="tabular")
