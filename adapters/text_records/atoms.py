"""Reads PDB and XYZ: one structure for each row, with its atoms as lists. Each model of a PDB file and each frame of an XYZ file is
a structure.

A PDB file also has its title and, as `header`, the lines above its first atom. Of XYZ, `lines` are the lines of the atoms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.text_records.line_records import (
    TextRecord,
    claim_all,
    damaged,
    lines_of,
    record_chunks,
    shards_of,
)
from choline_data.errors import SourceTooLargeError

MAX_STRUCTURE_BYTES = 256 << 20
MAX_ATOMS = 10_000_000
_ATOMS = ("ATOM", "HETATM")
_BESIDE_ATOMS = ("ANISOU", "SIGATM", "SIGUIJ", "TER")
_AFTER = ("END", "ENDMDL", "TER", "CONECT", "MASTER")
# Name, first and last column (counted from 0, the last one is not part of it) of the fields of an atom.
_TEXTS = (("atom_names", 12, 16), ("alternate_locations", 16, 17), ("residues", 17, 20), ("chains", 21, 22),
          ("residue_numbers", 22, 26), ("insertion_codes", 26, 27), ("elements", 76, 78), ("charges", 78, 80))  # fmt: skip
_NUMBERS = (("x", 30, 38), ("y", 38, 46), ("z", 46, 54), ("occupancies", 54, 60), ("b_factors", 60, 66))

_FRAME: Mapping[str, pa.DataType] = {
    "title": pa.string(),
    "elements": pa.list_(pa.string()),
    **{axis: pa.list_(pa.float64()) for axis in "xyz"},
    "lines": pa.list_(pa.string()),
}
_MODEL: Mapping[str, pa.DataType] = {
    "id": pa.string(),
    "title": pa.string(),
    "model": pa.int64(),
    **{name: pa.list_(pa.float64()) for name, *_ in _NUMBERS},
    **{name: pa.list_(pa.string()) for name, *_ in _TEXTS},
    "is_hetero": pa.list_(pa.bool_()),
    "header": pa.large_string(),
}


@dataclass
class _Model:
    """The lines of a model of a PDB file."""

    number: int | None = None
    atoms: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Atoms:
    """Reads structures. One with an atom that cannot be parsed is rejected. A file that ends within one is damaged."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the structures from number `start` on."""
        lines = lines_of(shard, self.encoding)
        first = next((line for line in lines if line.strip()), "")
        if first.strip().isdecimal():
            return record_chunks(_frames(first, lines, shard.name), shard, start, _FRAME)
        return record_chunks(_models(first, lines, shard.name), shard, start, _MODEL)


ADAPTER = Atoms


def _models(first: str, lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    """Yields the models of a PDB file."""
    header: list[str] = []
    model, last, size, stated = _Model(), "", 0, False
    for line in _all(first, lines):
        kind = line[:6].strip()
        size += len(line)
        if size > MAX_STRUCTURE_BYTES:
            raise SourceTooLargeError(
                f"{name}: a structure is above {MAX_STRUCTURE_BYTES:,} characters.", remedy="Split the file."
            )
        last = kind or last
        if kind in _ATOMS:
            model.atoms.append(line)
        elif kind == "MODEL":
            if stated or model.atoms:
                raise damaged(name, "a model begins before the one above it ends (ENDMDL)")
            model, stated = _Model(int(line[6:].strip() or 0)), True
        elif kind in ("ENDMDL", "END") and model.atoms:
            if kind == "END" and stated:
                raise damaged(name, "a model has no end (ENDMDL)")
            yield _model(model, header, size)
            model, size, stated = _Model(), 0, False
        elif not model.atoms and kind not in (*_BESIDE_ATOMS, *_AFTER):
            header.append(line)
    if model.atoms and (stated or last not in _AFTER):
        raise damaged(name, "it ends after an atom, without END")
    if model.atoms:
        yield _model(model, header, size)


def _all(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _model(model: _Model, header: list[str], size: int) -> TextRecord:
    titles = [line[10:80].strip() for line in header if line.startswith("TITLE ")]
    ids = [line[62:66].strip() for line in header if line.startswith("HEADER")]
    values: dict[str, Any] = {
        "id": ids[0] if ids and ids[0] else None,
        "title": " ".join(titles) or None,
        "model": model.number,
        "header": "\n".join(header) or None,
        "is_hetero": [line.startswith("HETATM") for line in model.atoms],
    }
    for name, start, end in _TEXTS:
        values[name] = [line[start:end].strip() or None for line in model.atoms]
    try:
        for name, start, end in _NUMBERS:
            cells = [line[start:end].strip() for line in model.atoms]
            if start < 54 and not all(cells):
                return TextRecord(fault="an atom without coordinates")
            values[name] = [float(cell) if cell else None for cell in cells]
    except ValueError:
        return TextRecord(fault="an atom whose coordinates are no numbers")
    return TextRecord(values, 3 * size)


def _frames(first: str, lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    """Yields the frames of an XYZ file: the number of atoms, a comment, and the atoms."""
    rest = _all(first, lines)
    for head in rest:
        if not head.strip():
            continue
        if not head.strip().isdecimal() or int(head) > MAX_ATOMS:
            raise damaged(
                name, f"a frame begins with {head[:40]!r}, not with its number of atoms (at most {MAX_ATOMS:,})"
            )
        title = next(rest, None)
        atoms: list[str] = []
        size = 0
        while len(atoms) < int(head) and (line := next(rest, None)) is not None:
            atoms.append(line)
            size += len(line)
            if size > MAX_STRUCTURE_BYTES:
                raise SourceTooLargeError(
                    f"{name}: a structure is above {MAX_STRUCTURE_BYTES:,} characters.", remedy="Split the file."
                )
        if title is None or len(atoms) < int(head):
            raise damaged(name, "it ends within a structure")
        yield _frame(title, atoms, size)


def _frame(title: str, atoms: list[str], size: int) -> TextRecord:
    cells = [line.split() for line in atoms]
    try:
        x, y, z = ([float(row[axis]) for row in cells] for axis in (1, 2, 3))
    except (ValueError, IndexError):
        return TextRecord(fault="an atom without an element and three coordinates")
    values = {
        "title": title.strip() or None,
        "elements": [row[0] for row in cells],
        "x": x,
        "y": y,
        "z": z,
        "lines": atoms,
    }
    return TextRecord(values, 3 * size + len(title))


def detect(source: Source) -> list[FormatClaim]:
    """Claims the structures."""
    return claim_all(source, Atoms(), "structures of atoms", kind="tabular")
