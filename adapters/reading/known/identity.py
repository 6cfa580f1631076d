"""Identifies a file that no adapter reads, and says what the user can do. Decides whether a text is prose, source code
or markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.encodings import looks_like_text
from choline_data.adapters.reading.known import format_table, text_shapes
from choline_data.errors import CholineDataError, SourceFormatError, one_line

HEAD_BYTES = 16 << 10
MOST_OPENED = 64
MARKUP = frozenset(
    ["md", "markdown", "mdx", "rst", "tex", "html", "htm", "xhtml", "org", "adoc", "asciidoc", "texi", "man"]
)
_AS_TEXT = "`--as text` takes it as plain text."
_CONVERT = "Convert it to Parquet, CSV or JSON Lines."


@dataclass(frozen=True)
class Identity:
    """The name of a file's format, and what the user can do to read the file."""

    what: str
    remedy: str


def structure_of(name: str, head: bytes) -> Identity | None:
    """Returns the structured format of a text that begins with `head`.

    None if its content and its name say prose, code or markup.
    """
    if io.extension(name) in MARKUP:
        return None
    known = format_table.format_of_text(head, name, io.extension(name))
    if known is not None:
        return Identity(known.name, f"{known.remedy or _CONVERT} {_AS_TEXT}")
    text = format_table.text_of(head, name)
    lines = format_table.content_lines(text, whole=True)
    shape = text_shapes.shape_of(text, lines)
    return Identity(shape, f"{_CONVERT} {_AS_TEXT}") if shape else None


def readers_of(files: Sequence[SourceFile]) -> dict[str, list[SourceFile]]:
    """Returns the files by the adapter that the table names for their format. Files that only other adapters read are left out.

    Of files with the same extension only the first MOST_OPENED are opened; the others count as what most of these are.
    """
    by_reader: dict[str, list[SourceFile]] = {}
    looked: dict[str, list[str]] = {}
    for file in files:
        extension = io.extension(file.name)
        known = format_table.format_of_extension(extension)
        if extension in MARKUP or (known is not None and known.is_media):
            continue
        seen = looked.setdefault(extension, [])
        if len(seen) < MOST_OPENED:
            seen.append(_reader(file, extension))
            reader = seen[-1]
        else:
            reader = max(set(seen), key=seen.count)
        if reader:
            by_reader.setdefault(reader, []).append(file)
    return by_reader


def _reader(file: SourceFile, extension: str) -> str:
    """Returns the adapter for this file: by its first bytes, or else by its extension, or else by its lines."""
    head = io.head(file.path, HEAD_BYTES)
    named = format_table.format_of_extension(extension)
    known = format_table.format_of_bytes(head)
    if known is None and looks_like_text(head):
        known = format_table.format_of_text(head, file.name, extension)
        # An extension such as `xml` says less than the name of an element of another format, such as VOTABLE.
        decisive = known is not None and (known.begins_the_file or known.reader or known.names_an_element)
        if known is not None and not decisive and named is not None and named.reader:
            known = named
    if known is None or (named is not None and (known.is_container or (known.reader == "archive" and named.zip))):
        known = named
    return known.reader if known is not None else ""


def is_prose(name: str, head: bytes) -> bool:
    """Returns whether a text is prose, judged by its content, or a script, judged by its beginning."""
    text = format_table.text_of(head, name)
    return text.startswith("#!") or text_shapes.is_prose(format_table.content_lines(text, whole=True))


def without_impostors(files: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
    """Returns the files without those whose content contradicts the text format that their name states, such as an error page.

    Only the first MOST_OPENED files are opened.
    """
    return tuple(f for at, f in enumerate(files) if at >= MOST_OPENED or not _is_impostor(f))


def _is_impostor(file: SourceFile) -> bool:
    head = io.head(file.path, HEAD_BYTES)
    if format_table.format_of_bytes(head) is not None:
        return True
    if not looks_like_text(head):
        return False
    extension = io.extension(file.name)
    known = format_table.format_of_text(head, file.name, extension)
    return known is not None and known.begins_the_file and extension not in known.extensions


def identify(file: SourceFile) -> Identity:
    """Returns what kind of file this is. Called for files that no adapter claims."""
    try:
        head = io.head(file.path, HEAD_BYTES)
    except CholineDataError as error:
        return Identity("a file that cannot be opened", error.message)
    if not head:
        return Identity("empty", "Leave it out.")
    known = format_table.format_of_bytes(head)
    if known is not None:
        named = format_table.format_of_extension(io.extension(file.name))
        known = named if named is not None and named.zip and known.reader == "archive" else known
        return Identity(known.name, known.remedy or _CONVERT)
    if looks_like_text(head):
        return _identify_text(file.name, head)
    named = format_table.format_of_extension(io.extension(file.name))
    if named is not None and not named.reader and not named.is_text:
        return Identity(named.name, named.remedy or _CONVERT)
    start = head[:8].hex(" ")
    if named is not None:
        return Identity(f"not {named.name}, in spite of its name (it begins with the bytes {start})", "Fetch it again.")
    return Identity(f"binary data of an unknown format (it begins with the bytes {start})", _CONVERT)


def _identify_text(name: str, head: bytes) -> Identity:
    """Returns the format by the content of a text, or else by its extension, or else its shape."""
    extension = io.extension(name)
    named = format_table.format_of_extension(extension)
    known: format_table.KnownFormat | None
    exact = named is not None and named.begins_the_file and not named.general
    if exact and named is not None and named.marks[0].search(format_table.text_of(head, name)):
        known = named  # the format of the extension; its marks may come after the first bytes
    else:
        known = format_table.format_of_text(head, name, extension) or named
    if known is not None:
        return Identity(known.name, f"{known.remedy or _CONVERT} {_AS_TEXT}")
    shape = structure_of(name, head)
    if shape is not None:
        return shape
    how = f"with the unknown extension .{io.extension(name)}" if io.extension(name) else "without an extension"
    return Identity(f"text {how}, and its content is not prose", _AS_TEXT)


def refusal(where: str, files: Sequence[SourceFile]) -> SourceFormatError:
    """Returns the error for a source none of whose files is read. It names the formats of the first files."""
    by_identity: dict[Identity, list[str]] = {}
    for file in files[:64]:
        by_identity.setdefault(identify(file), []).append(file.name)
    described = [f"{one_line(_names(names), 160)} is {what.what}" for what, names in list(by_identity.items())[:3]]
    more = len(files) - sum(len(names) for names in list(by_identity.values())[:3])
    message = "; ".join(described) + (f"; and {more} more files" if more > 0 else "")
    remedy = next(iter(by_identity)).remedy if by_identity else "Check the path."
    return SourceFormatError(f"{where}: {message}, which is not supported.", remedy=remedy)


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"each of {len(names)} files ({names[0]} …)"
