"""Reads GenBank, EMBL and UniProt: one entry for each row, with its id, its description, its features and its sequence.

A feature has its type, its location as written and its qualifiers. `more` holds the other lines of the entry by their key, such as
the references. An entry without a sequence (CONTIG) has none. Sequences keep their case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all, damaged
from choline_data.errors import SourceTooLargeError

MAX_ENTRY_BYTES = 256 << 20
_PAIR = pa.struct([("name", pa.string()), ("value", pa.string())])
_FEATURE = pa.struct([("type", pa.string()), ("location", pa.string()), ("qualifiers", pa.list_(_PAIR))])
_LENGTH = re.compile(r"(\d+) (?:bp|aa|BP|AA)\b")
_QUALIFIER = re.compile(r"/([^\s=/]+)(?:=(.*))?$")
_NO_SEQUENCE = re.compile(r"[\s\d/]+")
_EMBL_KEYS = {"DE": "description", "OS": "organism", "CC": "comment", "KW": "keywords", "AC": "accessions"}
_GENBANK_KEYS = {
    "DEFINITION": "description", "ORGANISM": "organism", "COMMENT": "comment", "KEYWORDS": "keywords",
    "ACCESSION": "accessions", "VERSION": "version",
}  # fmt: skip
_LINES_KEPT = frozenset({"comment"})  # values whose lines are lines of a text
_LEFT_OUT = frozenset({"XX", "FH", "BASE COUNT"})


@dataclass
class _Entry:
    """The lines of an entry by their key, its features as (type, lines), and the letters of its sequence."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    features: list[tuple[str, list[str]]] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    size: int = 0


@dataclass(frozen=True)
class SequenceEntries(LineRecords):
    """Reads entries. An entry whose sequence is not as long as its first line says is rejected."""

    types: ClassVar[Mapping[str, pa.DataType]] = {
        "id": pa.string(),
        "accessions": pa.list_(pa.string()),
        "version": pa.string(),
        "description": pa.large_string(),
        "organism": pa.string(),
        "keywords": pa.list_(pa.string()),
        "comment": pa.large_string(),
        "features": pa.list_(_FEATURE),
        "sequence": pa.large_string(),
        "more": pa.map_(pa.string(), pa.string()),
    }

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the entries of a file."""
        entry = _Entry()
        key = ""
        for line in lines:
            if line.startswith("//"):
                if entry.lines:
                    yield _record(entry)
                entry, key = _Entry(), ""
                continue
            if not line.strip() and key == "COMMENT":
                entry.lines[key].append("")
            if not line.strip() or (not entry.lines and not line.startswith(("LOCUS ", "ID   "))):
                continue  # a title above the entries, as in the releases of GenBank
            entry.size += len(line)
            if entry.size > MAX_ENTRY_BYTES:
                raise SourceTooLargeError(
                    f"{shard.name}: an entry is above {MAX_ENTRY_BYTES:,} characters.",
                    remedy="Is the line '//' missing?",
                )
            key = _take_embl(entry, line, key) if "ID" in entry.lines or line.startswith("ID   ") else (
                _take_genbank(entry, line, key))  # fmt: skip
        if entry.lines:
            raise damaged(shard.name, "it ends within an entry, before '//'")


ADAPTER = SequenceEntries


def _take_genbank(entry: _Entry, line: str, key: str) -> str:
    """Adds a line of GenBank, whose key stands in its first twelve characters. Returns the key."""
    own = line[:12].strip()
    if key == "FEATURES" and line.startswith(" "):
        _take_feature(entry, line[5:])
        return key
    if key == "ORIGIN" and line.startswith(" "):
        entry.letters.append(line)
        return key
    key = own or key
    if own:
        entry.lines.setdefault(key, [])
    if key not in ("FEATURES", "ORIGIN"):
        entry.lines[key].append(line[12:].strip())
    return key


def _take_embl(entry: _Entry, line: str, key: str) -> str:
    """Adds a line of EMBL or UniProt, whose key is its first two characters. Returns the key."""
    if line.startswith("  "):
        entry.letters.append(line)
        return key
    key = line[:2]
    if key == "FT":
        _take_feature(entry, line[5:])
    else:
        entry.lines.setdefault(key, []).append(line[5:].strip())
    return key


def _take_feature(entry: _Entry, text: str) -> None:
    kind, rest = text[:16].strip(), text[16:].strip()
    if kind and not text.startswith(" "):
        kind, _, rest = text.partition(" ")
        entry.features.append((kind, [rest.strip()]))
    elif entry.features:
        entry.features[-1][1].append(rest)


def _record(entry: _Entry) -> TextRecord:
    lines = dict(entry.lines)
    is_embl = "ID" in lines
    first = " ".join(lines.pop("ID" if is_embl else "LOCUS"))
    sequence = _NO_SEQUENCE.sub("", "".join(entry.letters)) or None
    length = _LENGTH.search(first)
    if sequence is not None and length is not None and int(length[1]) != len(sequence):
        return TextRecord(fault=f"a sequence of {len(sequence):,} letters, where the entry says {int(length[1]):,}")
    values: dict[str, Any] = {"id": re.split(r"[;\s]", first, maxsplit=1)[0], "sequence": sequence}
    for key, column in (_EMBL_KEYS if is_embl else _GENBANK_KEYS).items():
        if key in lines:
            values[column] = ("\n" if column in _LINES_KEPT else " ").join(lines.pop(key))
    if "ORGANISM" in entry.lines:
        values["organism"], *taxonomy = entry.lines["ORGANISM"]
        lines["TAXONOMY"] = taxonomy
    version = re.search(r"; SV (\d+);", first)
    if version is not None:
        values["version"] = f"{values['id']}.{version[1]}"
    values["accessions"] = re.findall(r"[^\s;]+", values.get("accessions", ""))
    keywords = values.get("keywords", "").rstrip(".")
    values["keywords"] = [word.strip() for word in keywords.split(";") if word.strip()]
    values["features"] = [_feature(kind, texts) for kind, texts in entry.features]
    lines |= {"LOCUS" if not is_embl else "ID": [first]}
    values["more"] = [(key, "\n".join(text)) for key, text in lines.items() if key not in _LEFT_OUT and any(text)]
    return TextRecord(values, 2 * entry.size)


def _feature(kind: str, texts: Sequence[str]) -> dict[str, Any]:
    location: list[str] = []
    qualifiers: list[tuple[str, list[str]]] = []
    quoted = False  # whether the last qualifier has a quote that is still open
    for text in texts:
        match = None if quoted else _QUALIFIER.match(text)
        if match is not None:
            qualifiers.append((match[1], [match[2] or ""]))
            quoted = (match[2] or "").startswith('"') and text.count('"') % 2 == 1
        elif qualifiers:
            qualifiers[-1][1].append(text)
            quoted = quoted != (text.count('"') % 2 == 1)
        else:
            location.append(text)
    return {
        "type": kind,
        "location": "".join(location),
        "qualifiers": [{"name": name, "value": _unquoted(name, parts)} for name, parts in qualifiers],
    }


def _unquoted(name: str, parts: Sequence[str]) -> str:
    value = ("" if name == "translation" else " ").join(parts)
    return value[1:-1].replace('""', '"') if len(value) > 1 and value[0] == value[-1] == '"' else value


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of entries."""
    return claim_all(source, SequenceEntries(), "entries of a sequence database", kind="tabular")
