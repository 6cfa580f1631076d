"""Reads CoNLL-2009, CoNLL-2012 (OntoNotes) and CoNLL-U Plus: one sentence for each row, with a list for each column of the file.

`text` is the words with blanks between them. CoNLL-2009 and CoNLL-2012 have a column of arguments for each predicate; `arguments`
is a list of these columns. CoNLL-2012 also has its named entities as `ner_tags` (B-, I- and O), and the parse tree of the sentence.
CoNLL-U Plus names its columns in its first line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all, damaged, paragraphs

_2009 = ("ids", "tokens", "lemmas", "predicted_lemmas", "pos_tags", "predicted_pos_tags", "feats", "predicted_feats", "heads",
         "predicted_heads", "deprels", "predicted_deprels", "is_predicate", "predicates")  # fmt: skip
_2012 = ("document", "part", "ids", "tokens", "pos_tags", "parse_parts", "predicate_lemmas", "predicate_senses", "word_senses",
         "speakers", "named_entities")  # fmt: skip
_GLOBAL = "# global.columns ="
_NAMES = {"ID": "ids", "FORM": "tokens", "LEMMA": "lemmas", "HEAD": "heads", "DEPREL": "deprels"}


@dataclass(frozen=True)
class Treebanks(LineRecords):
    """Reads sentences. A sentence is rejected if its lines differ in their number of columns."""

    types: ClassVar[Mapping[str, pa.DataType]] = {"text": pa.large_string()}

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the sentences of a file, in the format that its first lines state."""
        first = next((line for line in lines if line.strip()), "")
        rest = _chain(first, lines)
        if first.startswith("#begin document"):
            return _ontonotes(rest, shard.name)
        if first.startswith(_GLOBAL):
            return _plus(first.removeprefix(_GLOBAL).split(), lines, shard.name)
        return _shared_task(rest, shard.name)


ADAPTER = Treebanks


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _record(values: dict[str, Any], tokens: Sequence[str], block: Sequence[str]) -> TextRecord:
    return TextRecord({"text": " ".join(tokens), **values}, 3 * sum(map(len, block)))


def _shared_task(lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    """Yields the sentences of CoNLL-2009. After its fourteen columns there is one of arguments for each predicate, or none."""
    for block in paragraphs(lines, name):
        cells = [line.split("\t") for line in block]
        width = len(cells[0])
        predicates = sum(row[12] == "Y" for row in cells) if width >= len(_2009) else 0
        if any(len(row) != width for row in cells) or width - len(_2009) not in (0, predicates):
            yield TextRecord(
                fault=f"its lines do not have fourteen columns and one for each of {predicates} predicates"
            )
            continue
        columns = [list(column) for column in zip(*cells, strict=True)]
        values: dict[str, Any] = dict(zip(_2009, columns, strict=False))
        values["arguments"] = columns[len(_2009) :]
        yield _record(values, values["tokens"], block)


def _ontonotes(lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    """Yields the sentences of CoNLL-2012. Each document ends with a line that says so."""
    block: list[str] = []
    is_open = False
    for line in lines:
        if line.startswith("#"):
            is_open = line.startswith("#begin") or (is_open and not line.startswith("#end"))
        elif line.strip():
            if not is_open:
                raise damaged(name, "a line is outside of the documents")
            block.append(line)
            continue
        if block:
            yield _ontonotes_sentence(block)
            block = []
    if is_open:
        raise damaged(name, "it ends within a document, before '#end document'")


def _ontonotes_sentence(block: Sequence[str]) -> TextRecord:
    cells = [line.split() for line in block]
    width = len(cells[0])
    if any(len(row) != width for row in cells) or width < len(_2012) + 1:
        return TextRecord(fault=f"a line has other than {max(width, len(_2012) + 1)} columns")
    columns = [list(column) for column in zip(*cells, strict=True)]
    values: dict[str, Any] = dict(zip(_2012, columns, strict=False))
    values["document"], values["part"] = cells[0][0], cells[0][1]
    values["arguments"], values["coreference"] = columns[len(_2012) : -1], columns[-1]
    try:
        values["ner_tags"] = _tags(values["named_entities"])
    except ValueError as error:
        return TextRecord(fault=str(error))
    values["parse"] = "".join(
        bits.replace("*", f"({pos} {word})")
        for bits, pos, word in zip(values.pop("parse_parts"), values["pos_tags"], values["tokens"], strict=True)
    )
    return _record(values, values["tokens"], block)


def _tags(marks: Sequence[str]) -> list[str]:
    """Returns a tag for each word: B- for the first word of an entity, I- for its other words, O for all others."""
    tags: list[str] = []
    entity = ""
    for mark in marks:
        if mark.startswith("("):
            if entity or "(" in mark[1:]:
                raise ValueError("an entity within an entity")
            entity = mark[1:].rstrip(")*")
            tags.append(f"B-{entity}")
        else:
            tags.append(f"I-{entity}" if entity else "O")
        if mark.endswith(")"):
            entity = ""
    if entity:
        raise ValueError("an entity that has no end")
    return tags


def _plus(names: Sequence[str], lines: Iterator[str], name: str) -> Iterator[TextRecord]:
    """Yields the sentences of CoNLL-U Plus, with the columns that its first line names, and the values of its comments."""
    columns = [_NAMES.get(each.upper(), each.rpartition(":")[2].lower()) for each in names]
    if not columns or len(set(columns)) != len(columns):
        raise damaged(name, f"the line {_GLOBAL!r} does not name each column once")
    for block in paragraphs(lines, name):
        cells = [line.split("\t") for line in block if not line.startswith("#")]
        if not cells:
            continue
        if any(len(row) != len(columns) for row in cells):
            yield TextRecord(fault=f"a line has other than {len(columns)} columns")
            continue
        values: dict[str, Any] = dict(zip(columns, map(list, zip(*cells, strict=True)), strict=True))
        comments = [line[1:].strip() for line in block if line.startswith("#")]
        stated = {key.strip(): text.strip() for key, sign, text in (c.partition("=") for c in comments) if sign}
        ids = values.get("ids", [])
        words = [w for at, w in enumerate(values.get("tokens", [])) if not ids or ids[at].isdecimal()]
        values = {"sent_id": stated.get("sent_id"), **values, "comments": comments}
        if "text" in stated:
            words = [stated["text"]]
        yield _record(values, words, block)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the treebanks of shared tasks."""
    return claim_all(source, Treebanks(), "sentences of a treebank", kind="text")
