"""Reads SDF and Mol2: one molecule for each row, with its name and its structure. SDF has a column for each data item.

The structure is a MOL block, or the sections of Mol2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.text_records.line_records import (
    TextRecord,
    claim_all,
    damaged,
    lines_of,
    record_chunks,
    shards_of,
)
from choline_data.errors import SourceTooLargeError

_TYPES = {"name": pa.string(), "structure": pa.large_string()}
_ITEM = re.compile(r">.*?<([^>]*)>")


@dataclass(frozen=True)
class Molecules:
    """Reads the records that lines `$$$$` of SDF separate, or the sections `@<TRIPOS>` of Mol2. A MOL file has one row."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the molecules from number `start` on."""
        is_mol2 = b"@<TRIPOS>" in io.head(shard.path)
        records = (_tripos if is_mol2 else _records)(lines_of(shard, self.encoding), shard.name)
        return record_chunks(records, shard, start, _TYPES)


ADAPTER = Molecules


def _records(lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    block: list[str] = []
    size = 0
    for line in lines:
        if line.startswith("$$$$"):
            yield _molecule(block, size)
            block, size = [], 0
            continue
        block.append(line)
        size += len(line) + 1
        if size > MAX_ROW_BYTES:
            raise SourceTooLargeError(f"{name}: a molecule is above {MAX_ROW_BYTES:,} characters.", remedy="Is it SDF?")
    if any(line.strip() for line in block):
        if not any(line.startswith("M  END") for line in block):
            raise damaged(name, "it ends within a molecule")
        yield _molecule(block, size)


def _tripos(lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    """Yields the molecules of Mol2. Comments above the first molecule are left out."""
    block: list[str] = []
    size = 0
    for line in lines:
        if line.startswith("@<TRIPOS>MOLECULE") and block:
            yield _tripos_molecule(block, size, name, last=False)
            block, size = [], 0
        if block or line.startswith("@<TRIPOS>MOLECULE"):
            block.append(line)
            size += len(line) + 1
        if size > MAX_ROW_BYTES:
            raise SourceTooLargeError(
                f"{name}: a molecule is above {MAX_ROW_BYTES:,} characters.", remedy="Is it Mol2?"
            )
    if block:
        yield _tripos_molecule(block, size, name, last=True)


def _tripos_molecule(block: list[str], size: int, name: str, *, last: bool) -> TextRecord:
    """Returns a molecule whose sections have as many atoms and bonds as its third line says."""
    sections: dict[str, int] = {}
    section = ""
    for line in block:
        if line.startswith("@<TRIPOS>"):
            section = line[9:].strip()
        elif line.strip() and not line.startswith("#"):
            sections[section] = sections.get(section, 0) + 1
    stated = block[2].split()[:2] if len(block) > 2 else []
    counts = [str(sections.get("ATOM", 0)), str(sections.get("BOND", 0))][: len(stated)]
    if not stated or counts != stated:
        if last:
            raise damaged(name, "it ends within a molecule")
        return TextRecord(fault=f"a molecule with {' and '.join(counts)} atoms and bonds, not {' and '.join(stated)}")
    while block and (not block[-1].strip() or block[-1].startswith("#")):
        block.pop()
    return TextRecord({"name": block[1].strip(), "structure": "\n".join(block) + "\n"}, 2 * size)


def _molecule(block: Sequence[str], size: int) -> TextRecord:
    end = next((at for at, line in enumerate(block) if line.startswith("M  END")), -1)
    if end < 0:
        return TextRecord(fault="a molecule without the line 'M  END'")
    values = {"name": block[0].strip(), "structure": "\n".join(block[: end + 1]) + "\n"}
    item, content = "", list[str]()
    for line in [*block[end + 1 :], ""]:
        match = _ITEM.match(line) if not item else None
        if match:
            item, content = match[1], []
        elif item and not line.strip():
            values[item if item not in values else f"{item}_item"] = "\n".join(content)
            item = ""
        elif item:
            content.append(line)
    return TextRecord(values, 2 * size)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the SDF, MOL and Mol2 files."""
    return claim_all(source, Molecules(), "molecules", kind="tabular")
