"""Reads bracketed parse trees (Penn Treebank, Stanford Sentiment Treebank): one tree for each row.

`tree` is the tree on one line. `tokens` and `pos_tags` are its words and the labels above them; `text` is the words without those
of empty nodes (-NONE-). `label` is the label of the root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source
from choline_data.adapters.text_records.line_records import LineRecords, TextRecord, claim_all, damaged
from choline_data.errors import SourceTooLargeError

_PART = re.compile(r"[()]|[^\s()]+")
_EMPTY = "-NONE-"


@dataclass(frozen=True)
class ParseTrees(LineRecords):
    """Reads trees. A tree may take several lines, and a line may have several trees."""

    types: ClassVar[Mapping[str, pa.DataType]] = {
        "text": pa.large_string(),
        "label": pa.string(),
        "tree": pa.large_string(),
    }

    def records(self, lines: Iterator[str], shard: Shard) -> Iterator[TextRecord]:
        """Yields the trees of a file."""
        parts: list[str] = []
        depth = size = 0
        for number, line in enumerate(lines, 1):
            for part in _PART.findall(line):
                depth += (part == "(") - (part == ")")
                if depth < 0 or (not parts and part != "("):
                    raise damaged(shard.name, f"line {number}: {part[:20]!r} is outside of the trees")
                parts.append(part)
                size += len(part)
                if size > MAX_ROW_BYTES:
                    raise SourceTooLargeError(
                        f"{shard.name}: a tree is above {MAX_ROW_BYTES:,} characters.", remedy="Is a bracket missing?"
                    )
                if not depth:
                    yield _tree(parts, size)
                    parts, size = [], 0
        if parts:
            raise damaged(shard.name, "it ends within a tree")


ADAPTER = ParseTrees


def _tree(parts: list[str], size: int) -> TextRecord:
    tokens: list[str] = []
    tags: list[str] = []
    for at in range(2, len(parts) - 1):
        if parts[at] in "()":
            continue
        if parts[at - 1] == "(":
            if parts[at + 1] == ")":
                return TextRecord(fault=f"a node {parts[at][:20]!r} without a word")
            continue
        if parts[at + 1] != ")" or parts[at - 2] != "(" or parts[at - 1] in "()":
            return TextRecord(fault=f"{parts[at][:20]!r} is a word beside others below one node")
        tokens.append(parts[at])
        tags.append(parts[at - 1])
    labels = [part for part in parts[1:3] if part not in "()"]
    if not tokens:
        return TextRecord(fault="a tree without words")
    words = [token for token, tag in zip(tokens, tags, strict=True) if tag != _EMPTY]
    tree = " ".join(parts).replace("( ", "(").replace(" )", ")")
    values = {
        "text": " ".join(words),
        "label": labels[0] if labels else parts[2] if parts[2] not in "()" else None,
        "tree": tree,
        "tokens": tokens,
        "pos_tags": tags,
    }
    return TextRecord(values, 4 * size)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of trees."""
    return claim_all(source, ParseTrees(), "bracketed parse trees", kind="text")
