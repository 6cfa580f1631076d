"""Reads XML records: one row for each repeated element below the root, such as `<row>`, `<item>` or `<page>`.

RSS, Atom, MediaWiki, Stack Exchange, TMX, XLIFF and PubMed are known; in other files all children of the root must have the
same name. Attributes and child elements are columns. An element that mixes text and elements is kept as XML. Entities that
the file declares are refused, and nothing outside the file is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.names import is_about
from choline_data.adapters.text_records.line_records import rows_in_chunks, shards_of
from choline_data.errors import DataError, SourceDamagedError, SourceFormatError, SourceTooLargeError, one_line

RECORD_OF_ROOT: Mapping[str, str] = {
    "rss": "item",
    "feed": "entry",
    "mediawiki": "page",
    "tmx": "tu",
    "xliff": "trans-unit",
    "PubmedArticleSet": "PubmedArticle",
}
MAX_DEPTH = 200
_ATTRIBUTE, _TEXT = "@", "#text"


@dataclass
class _Element:
    """An element whose end tag is not read yet. `parts` holds its text and its complete children, in order."""

    name: str
    attributes: dict[str, str]
    parts: list[str | _Element] = field(default_factory=list)


@dataclass(frozen=True)
class XmlRecords:
    """Reads the elements named `record`. A record above `max_row_bytes` is an error."""

    record: str = ""
    max_row_bytes: int = MAX_ROW_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the records from number `start` on."""
        faults: list[DataError] = []
        yield from rows_in_chunks(self._rows(shard, faults), shard, start)
        if faults:
            raise faults[0]

    def _rows(self, shard: Shard, faults: list[DataError]) -> Iterator[dict[str, Any]]:
        parse = _Parse(self.record or record_of(shard.path, shard.name), self.max_row_bytes, shard.name)
        try:
            for piece in io.pieces(shard.path, shard.name):
                parse.feed(piece)
                yield from map(row_of, parse.taken())
            parse.feed(b"", last=True)
            yield from map(row_of, parse.taken())
        except DataError as error:
            yield from map(row_of, parse.taken())
            faults.append(error)


ADAPTER = XmlRecords


class _Parse:
    """Collects the elements named `record` from the events of the parser."""

    def __init__(self, record: str, limit: int, name: str) -> None:
        self._record, self._limit, self._name = record, limit, name
        self._open: list[_Element] = []
        self._done: list[_Element] = []
        self._depth = self._size = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.EntityDeclHandler = self._refuse_entity
        self._parser.SkippedEntityHandler = self._refuse_skipped

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Parses the next bytes. Raises SourceDamagedError if they are not XML."""
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            raise SourceDamagedError(
                f"{self._name}: not XML: {one_line(error, 120)}.", remedy="Fetch the file again, or mend it."
            ) from error

    def taken(self) -> list[_Element]:
        """Returns the records that are complete. Each record is returned only once."""
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise SourceTooLargeError(
                f"{self._name}: elements are nested above {MAX_DEPTH} levels.", remedy="Flatten it."
            )
        if self._open or _local(name) == self._record:
            self._grow(len(name) + sum(len(k) + len(v) for k, v in attributes.items()))
            self._open.append(_Element(_local(name), {_local(k): v for k, v in attributes.items()}))

    def _text(self, text: str) -> None:
        if self._open:
            self._grow(len(text))
            self._open[-1].parts.append(text)

    def _end(self, _: str) -> None:
        self._depth -= 1
        if not self._open:
            return
        element = self._open.pop()
        if self._open:
            self._open[-1].parts.append(element)
        else:
            self._done.append(element)
            self._size = 0

    def _grow(self, by: int) -> None:
        self._size += by
        if self._size > self._limit:
            raise SourceTooLargeError(
                f"{self._name}: a <{self._record}> is above {self._limit:,} characters (max_row_bytes).",
                remedy="Raise max_row_bytes.",
            )

    def _refuse_entity(self, name: str, *_: object) -> None:
        raise SourceFormatError(
            f"{self._name} declares the entity {one_line(name, 40)!r}, which is refused: entities can grow without bound.",
            remedy="Write it again without entities: xmllint --noent FILE > new.xml",
        )

    def _refuse_skipped(self, name: str, _: bool) -> None:
        raise SourceFormatError(
            f"{self._name} uses the entity {one_line(name, 40)!r}, which another file declares. No other file is loaded.",
            remedy="Write it again without entities: xmllint --noent FILE > new.xml",
        )


def records_in(data: bytes, name: str, record: str) -> list[dict[str, Any]]:
    """Returns the elements named `record` of a whole XML file. Raises SourceDamagedError if the data are not XML."""
    parse = _Parse(record, MAX_ROW_BYTES, name)
    parse.feed(data, last=True)
    return [row_of(element) for element in parse.taken()]


def _local(name: str) -> str:
    """Returns the name without its prefix. Names of the namespace `xml` keep it."""
    prefix, colon, local = name.rpartition(":")
    return name if not colon or prefix == "xml" else local


def row_of(element: _Element) -> dict[str, Any]:
    """Returns the row of a record."""
    if element.name == "tu":
        return _translations(element)
    value = _value(element)
    row = value if isinstance(value, dict) else {"text": value}
    row = {
        name.removeprefix(_ATTRIBUTE) if name.removeprefix(_ATTRIBUTE) not in row else name: v
        for name, v in row.items()
    }
    return _page(row) if element.name == "page" and "revision" in row else row


def _value(element: _Element) -> Any:
    """Returns the value of an element: its text, or a mapping of its children. If it mixes text and children, its
    content as XML.
    """
    children = [part for part in element.parts if isinstance(part, _Element)]
    text = "".join(part for part in element.parts if isinstance(part, str))
    attributes = {_ATTRIBUTE + name: value for name, value in element.attributes.items()}
    if children and text.strip():
        inner = "".join(map(_xml, element.parts))
        return {**attributes, _TEXT: inner} if attributes else inner
    if not children:
        return {**attributes, **({_TEXT: text} if text.strip() else {})} if attributes else text
    values: dict[str, Any] = dict(attributes)
    for name in dict.fromkeys(child.name for child in children):
        same = [_value(child) for child in children if child.name == name]
        values[name] = same[0] if len(same) == 1 else same
    return values


def _xml(part: str | _Element) -> str:
    if isinstance(part, str):
        return escape(part)
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in part.attributes.items())
    inner = "".join(map(_xml, part.parts))
    return f"<{part.name}{attributes}>{inner}</{part.name}>" if inner else f"<{part.name}{attributes}/>"


def _translations(unit: _Element) -> dict[str, Any]:
    """Returns a unit of TMX: a column for each language."""
    row: dict[str, Any] = {name: value for name, value in unit.attributes.items() if name == "tuid"}
    for variant in (part for part in unit.parts if isinstance(part, _Element) and part.name == "tuv"):
        language = variant.attributes.get("xml:lang") or variant.attributes.get("lang") or "text"
        segment = next((p for p in variant.parts if isinstance(p, _Element) and p.name == "seg"), None)
        if segment is not None:
            row[language] = _value(segment)
    return row


def _page(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a page of MediaWiki with one revision: the text and the time of the revision are columns."""
    revision = row["revision"]
    if not isinstance(revision, dict):
        return row
    text = revision.pop("text", "")
    return {
        **row,
        "text": text.get(_TEXT, "") if isinstance(text, dict) else text,
        "timestamp": revision.get("timestamp"),
    }


def record_of(path: str, name: str) -> str:
    """Returns the name of the elements that are records, from the file's beginning. Raises SourceFormatError if there are none."""
    names: list[str] = []
    depth = 0

    def start(tag: str, _: object) -> None:
        nonlocal depth
        if depth < 2:
            names.append(_local(tag))
        depth += 1

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(io.head(path), False)
    except expat.ExpatError as error:
        if not names:
            raise SourceFormatError(f"{name} is not XML: {one_line(error, 120)}.", remedy="Mend the file.") from error
    root, children = names[0] if names else "", names[1:]
    if root in RECORD_OF_ROOT:
        return RECORD_OF_ROOT[root]
    if len(children) > 1 and len(set(children)) == 1:
        return children[0]
    raise SourceFormatError(
        f"{name} is XML, but the children of <{one_line(root, 40)}> are not records with one name.",
        remedy="Convert it with pandas.read_xml, whose xpath names the records. `--as text` takes it as plain text.",
    )


def detect(source: Source) -> list[FormatClaim]:
    """Claims the XML files that consist of records. The files of each kind of record are a claim."""
    by_record: dict[str, list[SourceFile]] = {}
    for file in source.files:
        if is_about(file.name) and source.folder:
            continue
        try:
            by_record.setdefault(record_of(file.path, file.name), []).append(file)
        except SourceFormatError:
            continue
    return [
        FormatClaim(XmlRecords(record), tuple(files), 0.9, f"XML records <{record}>")
        for record, files in by_record.items()
    ]
