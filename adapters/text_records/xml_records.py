"""Reads XML records: one row for each repeated element below the root, such as `<row>`, `<item>` or `<page>`.

RSS, Atom, MediaWiki, Stack Exchange, TMX, XLIFF and PubMed are known; in other files all children of the root must have the
same name. Attributes and child elements are columns. An element that mixes text and elements is kept as XML. Entities that
the file declares are refused, and nothing outside the file is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.names import is_about
from choline_data.adapters.text_records.line_records import rows_in_chunks, shards_of
from choline_data.adapters.text_records.xml_elements import XmlElement, local_name, rows_of_element
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
_LANGUAGES = ("source-language", "target-language", "srcLang", "trgLang")


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
                yield from parse.rows()
            parse.feed(b"", last=True)
            yield from parse.rows()
            parse.check_count()
        except DataError as error:
            yield from parse.rows()
            faults.append(error)


ADAPTER = XmlRecords


class _Parse:
    """Collects the elements named `record` from the events of the parser."""

    def __init__(self, record: str, limit: int, name: str) -> None:
        self._record, self._limit, self._name = record, limit, name
        self._open: list[XmlElement] = []
        self._done: list[XmlElement] = []
        self._depth = self._size = self._count = 0
        self._languages: dict[str, str] = {}
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
                f"{self._name}: not XML: {one_line(error, 120)}.", remedy="Fetch the file again, or correct it."
            ) from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields the rows of the records that are complete. Each record is returned only once."""
        done, self._done = self._done, []
        for element in done:
            yield from rows_of_element(element)

    def check_count(self) -> None:
        """Raises SourceFormatError if the whole file has no record. Its elements may have another version's names."""
        if not self._count:
            raise SourceFormatError(
                f"{self._name} has no <{self._record}>, but the records of this kind of file have this name.",
                remedy="Leave the file out if it is empty. `--as text` takes it as plain text.",
            )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise SourceTooLargeError(
                f"{self._name}: elements are nested above {MAX_DEPTH} levels.", remedy="Flatten it."
            )
        if self._open or local_name(name) == self._record:
            self._grow(len(name) + sum(len(k) + len(v) for k, v in attributes.items()))
            self._open.append(XmlElement(local_name(name), {local_name(k): v for k, v in attributes.items()}))
        else:
            self._languages |= {k: v for k, v in attributes.items() if k in _LANGUAGES}

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
            stated = self._languages
            element.languages = (
                stated.get("source-language") or stated.get("srcLang") or "source",
                stated.get("target-language") or stated.get("trgLang") or "target",
            )
            self._done.append(element)
            self._count += 1
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
    return list(parse.rows())


def record_of(path: str, name: str) -> str:
    """Returns the name of the elements that are records, from the file's beginning. Raises SourceFormatError if there are none."""
    names: list[str] = []
    depth, version = 0, ""

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth, version
        version = version or attributes.get("version", "")
        if depth < 2:
            names.append(local_name(tag))
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
            raise SourceFormatError(
                f"{name} is not XML: {one_line(error, 120)}.", remedy="Correct the file."
            ) from error
    root, children = names[0] if names else "", names[1:]
    if root == "xliff" and version.startswith("2"):
        return "unit"
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
