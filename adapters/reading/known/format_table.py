"""The table of known formats: finds the format of a file from its first bytes, its first lines and its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from choline_data.adapters.reading.encodings import for_a_look, looks_like_text
from choline_data.places.yaml_safe import safe_load

TABLES = ("formats.yaml", "text_formats.yaml")
MIN_TEXT_MAGIC = 5  # A shorter magic number can be the first letters of an ordinary text.
LOOKED_CHARS = 8 << 10
LINE_CHARS = 400
LINES_SHARE = 0.9
MIN_LINES = 2
_ZIP = b"PK\x03\x04"
_SEVERAL = "Convert it to Parquet, CSV or JSON Lines with {}."


@dataclass(frozen=True)
class KnownFormat:
    """A row of the table. The keys are explained at the top of `formats.yaml`."""

    name: str
    magic: tuple[tuple[int, bytes], ...] = ()
    zip: tuple[bytes, ...] = ()
    marks: tuple[re.Pattern[str], ...] = ()
    lines: re.Pattern[str] | None = None
    extensions: tuple[str, ...] = ()
    reader: str = ""
    remedy: str = ""
    general: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the format is recognised by the content of a text."""
        return bool(self.marks) or self.lines is not None

    @property
    def is_media(self) -> bool:
        """Whether it is a picture, a sound or a film, which the adapters of folders read."""
        return self.name.endswith((" picture", " sound", " film"))

    @property
    def is_container(self) -> bool:
        """Whether its first bytes are those of several formats, which only the extension distinguishes."""
        return self.name.startswith(("Office document", "Microsoft Compound File"))

    @property
    def begins_the_file(self) -> bool:
        """Returns whether the format's mark is at the very beginning of a file. At this place, a mark is not a
        coincidence.
        """
        return bool(self.marks) and self.marks[0].pattern.startswith(r"\A")

    @property
    def names_an_element(self) -> bool:
        """Whether its first mark is an element of XML, such as `<VOTABLE`."""
        return bool(self.marks) and self.marks[0].pattern.startswith("<")

    def fits_text(self, text: str, lines: list[str]) -> bool:
        """Returns whether a text that begins with `text` is in this format. `lines` are those of its lines that are
        neither blank nor comments.
        """
        for mark in self.marks:
            if not mark.search(text):
                return False
        if self.lines is None:
            return self.is_text
        wrong, most = 0, len(lines) * (1 - LINES_SHARE)
        for line in lines:
            wrong += self.lines.fullmatch(line) is None
            if wrong > most:
                return False
        return len(lines) >= MIN_LINES


@cache
def known_formats() -> tuple[KnownFormat, ...]:
    """Returns all formats of the table, in its order."""
    return tuple(_rows())


@cache
def _text_formats() -> tuple[KnownFormat, ...]:
    return tuple(known for known in known_formats() if known.is_text)


@cache
def _by_extension() -> Mapping[str, KnownFormat]:
    formats: dict[str, KnownFormat] = {}
    for known in known_formats():
        for extension in known.extensions:
            formats.setdefault(extension, known)
    return formats


def format_of_extension(extension: str) -> KnownFormat | None:
    """Returns the format that an extension (lower case, without its dot) stands for."""
    return _by_extension().get(extension)


def format_of_bytes(head: bytes) -> KnownFormat | None:
    """Returns the format whose magic number the first bytes hold."""
    text = b"\0" not in head[:4096] and looks_like_text(head[:4096])
    magics, first, later = _magics()
    for at, magic, known in magics if head.startswith(first) else later:
        if head.startswith(magic, at) and (not text or len(magic) >= MIN_TEXT_MAGIC):
            return _within_zip(head) or known if magic == _ZIP else known
    return None


_Magics = list[tuple[int, bytes, KnownFormat]]


@cache
def _magics() -> tuple[_Magics, tuple[bytes, ...], _Magics]:
    """Returns all magic numbers in the table's order, those at the first byte, and those at later bytes."""
    found = [(at, magic, known) for known in known_formats() for at, magic in known.magic]
    return found, tuple(magic for at, magic, _ in found if not at), [entry for entry in found if entry[0]]


def is_zip_document(head: bytes, extension: str) -> bool:
    """Whether a ZIP archive is one document, such as a workbook or a book: by its first member or its extension."""
    named = format_of_extension(extension)
    return head.startswith(_ZIP) and (_within_zip(head) is not None or bool(named and named.zip))


def _within_zip(head: bytes) -> KnownFormat | None:
    """Returns the format of a ZIP whose first member says what it is."""
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    start = first + head[30 + len(first) : 120 + len(first)]
    if first.endswith(b".npy"):
        return format_of_extension("npz")
    known = (k for k in known_formats() for prefix in k.zip if start.startswith(prefix))
    return next(known, None)


def format_of_text(head: bytes, name: str = "", extension: str = "") -> KnownFormat | None:
    """Returns the format whose marks are in a text that begins with `head`. None for prose, code and what the table does not know.

    If several fit, the one that the extension stands for, or else the first. But special formats come before a general one.
    """
    text = text_of(head, name)[:LOOKED_CHARS]
    lines = content_lines(text, whole=len(text) < LOOKED_CHARS)
    named = format_of_extension(extension)
    if named is not None and not named.general and named.fits_text(text, lines):
        return named
    return next((known for known in _text_formats() if known.fits_text(text, lines)), None)


def text_of(head: bytes, name: str = "") -> str:
    """Returns the first bytes of a file as text with LF line ends.

    A cut last line is left out, because it may end within a character, unless it is most of these bytes.
    """
    whole_lines = head[: head.rfind(b"\n") + 1]
    text = for_a_look(whole_lines if 2 * len(whole_lines) >= len(head) else head, name)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def content_lines(text: str, *, whole: bool) -> list[str]:
    """Returns the lines that are neither blank nor comments, each cut to LINE_CHARS.

    If `text` is not the whole file, leaves out the last line, which may be incomplete.
    """
    lines = text.split("\n")
    if not whole and len(lines) > 1:
        lines.pop()
    return [line[:LINE_CHARS].rstrip() for line in lines if line.strip() and not line.startswith("#")]


def _rows() -> Iterator[KnownFormat]:
    for table in TABLES:
        text = resources.files(__package__).joinpath(table).read_text("utf-8")
        for row in safe_load(text, table):
            yield _known(row)


def _known(row: Mapping[str, Any]) -> KnownFormat:
    return KnownFormat(
        name=row["name"],
        magic=tuple(_magic(value) for value in row.get("magic", ())),
        zip=tuple(value.encode("latin-1") for value in row.get("zip", ())),
        marks=tuple(re.compile(mark, re.MULTILINE) for mark in row.get("marks", ())),
        lines=re.compile(row["lines"]) if "lines" in row else None,
        extensions=tuple(row.get("extensions", ())),
        reader=row.get("reader", ""),
        general=row.get("general", False),
        remedy=row.get("remedy", "") or (_SEVERAL.format(row["use"]) if "use" in row else ""),
    )


def _magic(value: str) -> tuple[int, bytes]:
    at = re.match(r"@(\d+) ", value)
    return (int(at[1]), value[at.end() :].encode("latin-1")) if at else (0, value.encode("latin-1"))
