"""Reads parallel texts in files of lines (Moses, OPUS): line n of `a.en` and line n of `a.de` say the same and are one row.

There is a column for each language. Files with different numbers of lines are damaged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.mapping.rules_of_content import is_language
from choline_data.adapters.reading import io
from choline_data.adapters.reading.encodings import looks_like_text
from choline_data.adapters.reading.names import in_order, is_about, parts
from choline_data.adapters.text_records.line_records import TextRecord, lines_of, record_chunks
from choline_data.errors import SourceFormatError

_NAME = re.compile(r"^(?P<stem>.+)\.(?P<language>[A-Za-z]{2}(?:[-_][A-Za-z]{2,4})?|src|tgt|source|target|trg)(?P<txt>\.txt)?"
                   r"(?:\.(?:gz|zst|bz2|xz|lz4))?$")  # fmt: skip
MIN_LINES = 50
_SIDES = ({"src", "tgt"}, {"src", "trg"}, {"source", "target"})
_CODE = frozenset(
    {"cs", "pl", "ts", "ml", "sh", "so", "is"}
)  # languages whose code is also the extension of other files


@dataclass(frozen=True)
class ParallelTexts:
    """Reads the lines of files that belong together. Blank lines count, because lines match by their number."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each group of files, in order of name."""
        return [
            Shard(group[0].path, group[0].name, files=tuple(group), size=sum(f.size for f in group))
            for group in _groups(files).values()
        ]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the lines from number `start` on."""
        types = {_language(file.name): pa.large_string() for file in shard.files}
        return record_chunks(self._records(shard), shard, start, types)

    def _records(self, shard: Shard) -> Iterator[TextRecord]:
        names = [_language(file.name) for file in shard.files]
        sides = [lines_of(Shard(f.path, f.name, encoding=shard.encoding), self.encoding) for f in shard.files]
        for number, lines in enumerate(zip_longest(*sides)):
            short = next((f.name for f, line in zip(shard.files, lines, strict=True) if line is None), "")
            if short:
                raise SourceFormatError(
                    f"{short} has {number:,} lines, fewer than the file in the other language, so lines do not match.",
                    remedy="Correct the files. If they are documents in two languages, read them as such: --format text",
                )
            texts = [(line or "").lstrip("\ufeff") if not number else line for line in lines]
            yield TextRecord(dict(zip(names, texts, strict=True)), sum(map(len, lines)) * 2)


ADAPTER = ParallelTexts


def _language(name: str) -> str:
    match = _NAME.match(name)
    return match["language"] if match is not None else ""


def _groups(files: Sequence[SourceFile]) -> dict[str, list[SourceFile]]:
    """Returns the files that have the same name but for the language, if there are at least two languages."""
    found: dict[str, dict[str, SourceFile]] = {}
    for file in in_order(files):
        match = _NAME.match(file.name)
        if match is not None and not is_about(file.name):
            found.setdefault(match["stem"] + (match["txt"] or ""), {}).setdefault(match["language"], file)
    return {stem: list(sides.values()) for stem, sides in found.items() if _belong(set(sides))}


def _belong(languages: set[str]) -> bool:
    if len(languages) < 2 or languages <= _CODE:
        return False
    return languages in _SIDES or all(is_language(name) for name in languages)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the groups of files with lines in several languages. Notes beside them describe them."""
    groups = [files for files in _groups(source.files).values() if all(map(_is_text, files)) and _may_match(files)]
    if not groups:
        return []
    files = tuple(f for group in groups for f in group)
    languages = sorted({_language(f.name) for f in files})
    names = {f.name for f in files}
    described = tuple(
        (f.name, "a note beside parallel texts")
        for f in source.files
        if f.name not in names and re.match(r"(?i)(readme|licen[cs]e)", parts(f.name)[-1])
    )
    why = f"lines in {', '.join(languages[:6])}"
    return [FormatClaim(ParallelTexts(), files, 0.97, why, kind="text", described=described)]


def _may_match(files: Sequence[SourceFile]) -> bool:
    """Whether the files have many lines, or the same number of lines. Documents in several languages are short and differ."""
    heads = [io.head(f.path, 64 << 10) for f in files]
    counts = [head.count(b"\n") for head in heads]
    return min(counts) >= MIN_LINES or (len(set(counts)) == 1 and counts[0] > 1)


def _is_text(file: SourceFile) -> bool:
    head = io.head(file.path, 4 << 10)
    return looks_like_text(head) and head.lstrip()[:1] not in (b"{", b"<", b"#")
