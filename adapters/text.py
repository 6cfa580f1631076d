"""Reads plain text: one row for each file, line, paragraph, or part between separator lines.

Without options, the content decides. Fortune files are read as the parts between `%` lines; the counts in their binary `.dat`
indexes are checked. If the lines are whole paragraphs (WikiText), each non-blank line is a row. Otherwise each file is one
document. If the encoding of a few documents among many is not clear, their non-ASCII bytes are kept as escapes such as `\\xe9`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import (
    BATCH_ROWS,
    MAX_ROW_BYTES,
    FormatClaim,
    Reject,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
)
from choline_data.adapters.reading import io, media, members, text_files
from choline_data.adapters.reading.encodings import declared_in, decoded, looks_like_text, with_escapes
from choline_data.adapters.reading.known.format_table import format_of_extension, format_of_text
from choline_data.adapters.reading.known.identity import HEAD_BYTES, MARKUP, Identity, is_prose, structure_of
from choline_data.adapters.reading.names import in_order, is_about, parts
from choline_data.adapters.reading.rows import SourceRows, file_shards
from choline_data.errors import ChoiceNeededError, InvalidOptionError, SourceDamagedError, SourceTooLargeError
from choline_data.places.pins import without_pin

log = logging.getLogger("choline_data")
UNITS = ("document", "line", "paragraph", "separator")
SUFFIXES = MARKUP | {"txt", "text", "asc"}
MIN_LINES = 50
PARAGRAPH_CHARS = 200
LOOK_FILES = 64
MIN_PROSES = 10
# the largest share of a shard's documents that may have an unknown encoding; their non-ASCII bytes are kept as escapes
UNKNOWN_SHARE = 0.05


@dataclass(frozen=True)
class Text:
    """Reads text by `unit`. `encoding` overrides the detected encoding.

    Raises SourceTooLargeError for a unit larger than `max_bytes`.
    """

    unit: str = "document"
    separator: str = "%"
    max_bytes: int = MAX_ROW_BYTES
    encoding: str = ""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise InvalidOptionError(f"No text unit {self.unit!r}.", remedy=f"There are: {', '.join(UNITS)}.")

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns shards of several documents. If the unit is smaller than a document, returns one shard for each file,
        with its index file if there is one.
        """
        texts = in_order(f for f in files if not _is_index(f.name))
        if self.unit == "document":
            return file_shards(texts)
        indexes = {f.name: f for f in files if _is_index(f.name)}
        return [Shard(f.path, f.name, files=_index_of(f, indexes), size=f.size) for f in texts]

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields rows with the column `text`. Documents also have the columns `path` and `encoding` (the detected encoding)."""
        if self.unit == "document":
            yield from self._documents(shard, start)
            return
        first = 0
        for texts, rejects in self._units(shard):
            rows = [n for n in range(first, first + len(texts)) if n not in rejects]
            first += len(texts)
            valid = [t for n, t in enumerate(texts, first - len(texts)) if n not in rejects]
            chunk = SourceChunk(
                pa.RecordBatch.from_pydict({"text": pa.array(valid, pa.large_string())}),
                np.array(rows, dtype=np.int64),
                tuple(Reject(shard.origin, n, why) for n, why in rejects.items() if n >= start),
            )
            if first > start:
                skip = sum(n < start for n in rows)
                yield replace(chunk, batch=chunk.batch.slice(skip), rows=chunk.rows[skip:])
        self._check_count(shard, first)

    def _documents(self, shard: Shard, start: int) -> Iterator[SourceChunk]:
        rows = SourceRows(shard.origin, {"text": pa.large_string(), "path": pa.string(), "encoding": pa.string()})
        files = shard.files or (SourceFile(shard.path, shard.name, shard.size),)
        unknown: list[str] = []
        for number, (file, data) in enumerate(members.contents(files[start:], self.max_bytes), start):
            if data is None:
                raise self._too_large(file.name, "document")
            if rows.full(len(data)):
                yield from rows.take()
            try:
                text, encoding = decoded(data, file.name, self.encoding, without_pin(file.path)[1].charset)
            except ChoiceNeededError:
                unknown.append(file.name)
                if len(unknown) > UNKNOWN_SHARE * len(files):
                    raise
                text, encoding = with_escapes(data), "unknown"
            values = {"text": text, "path": file.name, "encoding": encoding}
            rows.add(number, values, len(data), file.name)
        yield from rows.take()
        if unknown:
            log.warning(
                "The encoding of %d of %d documents is not clear; the first: %s. Name it: --encoding '%s=NAME'.",
                len(unknown), len(files), unknown[0], unknown[0],
            )  # fmt: skip

    def _units(self, shard: Shard) -> Iterator[tuple[list[str], dict[int, str]]]:
        """Yields the texts, and for texts that are rejected the reasons by row number. A text is rejected if it is not UTF-8."""
        pattern = {
            "line": rb"\r?\n",
            "paragraph": rb"\r?\n(?:[ \t]*\r?\n)+",
            "separator": rb"(?:^|(?<=\n))" + re.escape(self.separator.encode()) + rb"[ \t]*(?:\r?\n|\Z)",
        }[self.unit]
        cut = re.compile(pattern)
        number, rest = 0, b""
        encoding = shard.encoding or text_files.encoding_of(shard.path, shard.name, self.encoding)
        source = io.pieces(shard.path, shard.name, shard.start, shard.end)
        for piece, last in _with_last(text_files.utf8_pieces(source, shard.name, encoding)):
            rest += piece
            if last:
                units, rest = cut.split(rest), b""
            else:
                # A separator at the very end may continue in the next piece, so the last unit waits for this piece.
                matches = [m for m in cut.finditer(rest) if m.end() < len(rest)]
                end = matches[-1].end() if matches else 0
                units, rest = (cut.split(rest[:end])[:-1] if end else []), rest[end:]
            if max(map(len, units), default=len(rest)) > self.max_bytes or len(rest) > self.max_bytes:
                raise self._too_large(shard.origin, self.unit)
            for group in _groups([u for u in units if u.strip()]):
                texts, rejects = _decoded_units(group, number)
                number += len(texts)
                yield texts, rejects

    def _too_large(self, where: str, what: str) -> SourceTooLargeError:
        return SourceTooLargeError(
            f"{where}: a {what} is above {self.max_bytes:,} bytes (max_bytes).",
            remedy="Read it in smaller units (unit=line, paragraph or separator), or raise max_bytes.",
        )

    def _check_count(self, shard: Shard, found: int) -> None:
        for index in shard.files:
            stated = int.from_bytes(io.raw_head(index.path)[4:8], "big")
            if stated != found:
                raise SourceDamagedError(
                    f"{shard.origin} has {found} parts, its index {index.name} says {stated}.",
                    remedy="Fetch both again, or remove the index if it is stale.",
                )


ADAPTER = Text


def _with_last(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    held = next(pieces, b"")
    for piece in pieces:
        yield held, False
        held = piece
    yield held, True


def _groups(units: list[bytes]) -> Iterator[list[bytes]]:
    for at in range(0, len(units), BATCH_ROWS):
        yield units[at : at + BATCH_ROWS]


def _decoded_units(units: list[bytes], first: int) -> tuple[list[str], dict[int, str]]:
    """Returns the texts without their line ends, and the reasons, by row number, for texts that are not UTF-8."""
    try:
        # Decodes the group at once. In UTF-8, NUL is never part of another character.
        texts = b"\x00".join(units).decode().split("\x00")
        if len(texts) == len(units):
            return [t.rstrip("\r\n") for t in texts], {}
    except UnicodeDecodeError:
        pass
    decoded_texts: list[str] = []
    rejects: dict[int, str] = {}
    for number, unit in enumerate(units, first):
        try:
            decoded_texts.append(unit.decode().rstrip("\r\n"))
        except UnicodeDecodeError as error:
            decoded_texts.append("")
            rejects[number] = f"not UTF-8 at its byte {error.start}"
    return decoded_texts, rejects


def _is_index(name: str) -> bool:
    return name.endswith(".dat")


def _index_of(file: SourceFile, indexes: dict[str, SourceFile]) -> tuple[SourceFile, ...]:
    index = indexes.get(file.name + ".dat")
    return (index,) if index else ()


def detect(source: Source) -> list[FormatClaim]:
    """Claims the text files that no other format claimed. Documents, line files and fortune files are separate claims."""
    single = len(source.files) == 1 and not source.folder
    about = [] if single else [f for f in source.files if is_about(f.name)]
    about_names = {f.name for f in about}
    text_files = [f for f in source.files if f.name not in about_names]
    texts = _texts(text_files, plain=source.options.get("as") == "text")
    if not texts and about and len(about) == len(source.files):
        return []
    groups: dict[str, list[SourceFile]] = {}
    for file in texts:
        groups.setdefault(_unit_of(file, source.files), []).append(file)
    claims = []
    passed = tuple((f.name, "tells about the data") for f in about)
    for unit in (u for u in UNITS if u in groups):
        files = groups[unit]
        indexes = {f.name: f for f in source.files if _is_index(f.name)}
        beside = [i for f in files for i in _index_of(f, indexes)] if unit == "separator" else []
        claims.append(
            FormatClaim(
                Text(unit),
                (*files, *beside),
                0.6,
                f"{len(files)} text file(s), read by {unit}",
                kind="text",
                passed_over=passed + tuple((f.name, "a binary index of the text beside it") for f in beside),
            )
        )
        passed = ()
    return claims


def _texts(files: Sequence[SourceFile], *, plain: bool) -> list[SourceFile]:
    """Returns the files that are prose, source code or markup, by their content and name. With `plain`, returns all
    files of text.
    """
    named: dict[str, list[SourceFile]] = {}
    unnamed: list[SourceFile] = []
    for file in files:
        suffix = _suffix_of(file.name)
        if suffix in SUFFIXES:
            named.setdefault(suffix, []).append(file)
        elif plain or (_is_odd(suffix, file.name) and format_of_extension(suffix) is None):
            unnamed.append(file)
    proses = set(_proses(unnamed, plain=plain))
    for group in named.values():
        proses.update(_most_like_the_first(group, plain=plain))
    return [f for f in files if f in proses]


def _most_like_the_first(files: list[SourceFile], *, plain: bool) -> list[SourceFile]:
    """Returns the texts among files with the same text extension.

    Only LOOK_FILES of them are opened, because opening 100,000 members takes minutes. The others are taken if most of these
    are texts.
    """
    looked = files
    if len(files) > LOOK_FILES:
        looked = [files[i * (len(files) - 1) // (LOOK_FILES - 1)] for i in range(LOOK_FILES)]
    good = [f for f in looked if _head_of_text(f) is not None and (plain or _structure(f) is None)]
    if len(looked) == len(files) or len(good) * 2 <= len(looked):
        return good
    bad = set(looked) - set(good)
    return [f for f in files if f not in bad]


def _proses(files: list[SourceFile], *, plain: bool) -> list[SourceFile]:
    """Returns the texts among files whose names do not tell what they are.

    If nearly all are prose, a text in an unknown encoding also counts as prose.
    """
    texts = [f for f in files if _head_of_text(f) is not None]
    if plain:
        return texts
    prose = [f for f in texts if declared_in(f.name) or (_structure(f) is None and is_prose(f.name, _head(f)))]
    if len(prose) >= MIN_PROSES and len(prose) * 10 >= len(texts) * 9:
        return [f for f in texts if f in prose or format_of_text(_head(f), f.name) is None]
    return prose


def _suffix_of(name: str) -> str:
    last = parts(name)[-1]
    return media.suffix_of(last[: last.rfind(".")] if last.endswith((".gz", ".zst", ".bz2", ".xz")) else last)


def _is_odd(suffix: str, name: str) -> bool:
    """Returns whether the suffix is not an extension, so that only the content can tell what the file is."""
    return not suffix or len(suffix) > 5 or not suffix.isalnum() or suffix.isdigit() or bool(declared_in(name))


def _head(file: SourceFile) -> bytes:
    return io.head(file.path, HEAD_BYTES)


def _head_of_text(file: SourceFile) -> bytes | None:
    """Returns the first bytes of a text. None if the file is not a text."""
    head = _head(file)
    if declared_in(file.name).startswith("utf-16"):
        return head
    return head if looks_like_text(head) and not media.mime_of(head) else None


def _structure(file: SourceFile) -> Identity | None:
    """Returns the structured format of a text. A name that declares an encoding says that the file is a text."""
    return None if declared_in(file.name) else structure_of(file.name, _head(file))


def _unit_of(file: SourceFile, files: Sequence[SourceFile]) -> str:
    if len(files) > LOOK_FILES:
        return "document"
    head = io.head(file.path)
    lines = head.replace(b"\r\n", b"\n").split(b"\n")[:-1]
    if sum(line.rstrip() == b"%" for line in lines) >= 2:
        return "separator"
    filled = [line for line in lines if line.strip()]
    few = len(files) <= 64 and media.suffix_of(file.name) in ("txt", "")
    if few and len(filled) >= MIN_LINES and sum(map(len, filled)) >= PARAGRAPH_CHARS * len(filled):
        return "line"
    return "document"
