"""Reads VCF, GFF, GTF and BED: one line for each row, with the columns of the format. Lines of headers are left out.

Places count as in the file: VCF and GFF from 1, BED from 0. VCF's INFO and the attributes of GFF are objects of text; a flag is
"true", and the values of a key that repeats are joined by commas. The sample columns of VCF are text. A `.` is a missing value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.text_records.line_records import (
    TextRecord,
    claim_all,
    damaged,
    lines_of,
    record_chunks,
    shards_of,
)

_VCF = ("chrom", "pos", "id", "ref", "alt", "qual", "filter", "info")
_GFF = ("seqid", "source", "type", "start", "end", "score", "strand", "phase", "attributes")
_BED = ("chrom", "start", "end", "name", "score", "strand", "thick_start", "thick_end", "rgb", "block_count",
        "block_sizes", "block_starts")  # fmt: skip
_INTEGERS = frozenset({"pos", "start", "end"})
_NUMBERS = frozenset({"qual", "score"})
_GTF_PAIR = re.compile(r'\s*(\S+)\s+(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))\s*(?:;|$)')
Values = dict[str, Any]


@dataclass(frozen=True)
class GenomeLines:
    """Reads lines with tabs between the columns. A line with a wrong number of columns, or with a position that is not
    a number, is rejected.
    """

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the lines from number `start` on."""
        lines = lines_of(shard, self.encoding)
        head = io.head(shard.path, 64 << 10).decode("utf-8", "replace")
        if head.startswith("##fileformat=VCF"):
            return record_chunks(_variants(lines, shard.name), shard, start, _types(_VCF))
        if re.search(r"^[^\t\n#]+(\t[^\t\n]*){8}", head, re.MULTILINE) and not _is_bed(shard.name, head):
            return record_chunks(_features(lines), shard, start, _types(_GFF))
        return record_chunks(_intervals(lines), shard, start, _types(_BED[:3]))


ADAPTER = GenomeLines


def _is_bed(name: str, head: str) -> bool:
    """Returns whether the second and the third column are positions. GFF has them in its fourth and fifth column."""
    return (
        io.extension(name) == "bed"
        or re.search(r"^(?!#|track|browser)[^\t\n]+\t\d+\t\d+\t", head, re.MULTILINE) is not None
    )


def _types(names: Sequence[str]) -> dict[str, pa.DataType]:
    kinds: dict[str, pa.DataType] = {name: pa.int64() for name in _INTEGERS} | {name: pa.float64() for name in _NUMBERS}
    kinds |= {name: pa.map_(pa.string(), pa.string()) for name in ("info", "attributes")}
    return {name: kinds.get(name, pa.string()) for name in names}


def _typed(names: Sequence[str], cells: Sequence[str]) -> Values:
    found: Values = {}
    for name, cell in zip(names, cells, strict=True):
        if name in _INTEGERS:
            found[name] = int(cell)
        else:
            missing = cell in (".", "")
            found[name] = None if missing else float(cell) if name in _NUMBERS else cell
    return found


def _record(names: Sequence[str], cells: Sequence[str], line: str) -> TextRecord:
    try:
        return TextRecord(_typed(names, cells), 2 * len(line))
    except ValueError:
        return TextRecord(fault=f"a place or a score is no number: {line[:80]!r}")


def _variants(lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    header: list[str] = []
    for line in lines:
        if line.startswith("#CHROM"):
            header = line.split("\t")
        if line.startswith("#") or not line:
            continue
        if not header:
            raise damaged(name, "the line that begins with #CHROM is missing")
        cells = line.split("\t")
        if len(cells) != len(header) or len(cells) < len(_VCF):
            yield TextRecord(fault=f"{len(cells)} columns, not {len(header)}")
            continue
        record = _record(_VCF, cells[: len(_VCF)], line)
        if not record.fault:
            samples = dict(zip(["format", *header[9:]], cells[8:], strict=False))
            record = TextRecord({**record.values, "info": _info(cells[7]), **samples}, record.size)
        yield record


def _info(cell: str) -> list[tuple[str, str]]:
    """Returns the INFO column of a variant as (key, value) pairs."""
    pairs = (part.partition("=") for part in cell.split(";") if part not in ("", "."))
    return _joined((key, value if sign else "true") for key, sign, value in pairs)


def _joined(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns the pairs with each key only once. The values of a repeated key are joined."""
    found: dict[str, str] = {}
    for key, value in pairs:
        found[key] = f"{found[key]},{value}" if key in found else value
    return list(found.items())


def _features(lines: Iterator[str]) -> Iterator[TextRecord]:
    for line in lines:
        if line.startswith("##FASTA"):
            return
        if line.startswith("#") or not line:
            continue
        cells = line.split("\t")
        if len(cells) != len(_GFF):
            yield TextRecord(fault=f"{len(cells)} columns, not {len(_GFF)}")
            continue
        record = _record(_GFF[:8], cells[:8], line)
        yield (
            record if record.fault else TextRecord({**record.values, "attributes": _attributes(cells[8])}, record.size)
        )


def _attributes(cell: str) -> list[tuple[str, str]]:
    """Returns the attributes of a feature: `key=value` of GFF 3, or `key "value"` of GTF."""
    if re.match(r"\s*[^\s=;\"]+=", cell):
        parts = (part.strip().partition("=") for part in cell.split(";") if part.strip())
        return _joined((unquote(key), unquote(value)) for key, _, value in parts)
    found = _GTF_PAIR.finditer(cell)
    return _joined((match[1], match[2] if match[2] is not None else match[3]) for match in found)


def _intervals(lines: Iterator[str]) -> Iterator[TextRecord]:
    for line in lines:
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        cells = line.split("\t") if "\t" in line else line.split()
        if len(cells) < 3:
            yield TextRecord(fault=f"{len(cells)} columns, not 3 or more")
            continue
        names = [_BED[at] if at < len(_BED) else f"column_{at}" for at in range(len(cells))]
        yield _record(names, cells, line)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the VCF, GFF, GTF and BED files."""
    return claim_all(source, GenomeLines(), "lines of variants, features or intervals", kind="tabular")
