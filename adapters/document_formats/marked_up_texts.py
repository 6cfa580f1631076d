"""Reads texts in the markup of TEI or JATS: one text for each row, with its title, its authors and its source.

The text has a line for each paragraph, heading, verse or speech. `source` holds the whole XML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import MAX_ROW_BYTES, FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.document_formats.whole_documents import Rows, document_chunks
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.reading.rows import file_shards
from choline_data.adapters.text_records.line_records import claim_all
from choline_data.adapters.text_records.xml_elements import XmlElement
from choline_data.adapters.text_records.xml_tree import xml_tree

_TYPES = {
    "text": pa.large_string(), "title": pa.string(), "authors": pa.list_(pa.string()), "language": pa.string(),
    "source": pa.large_string(),
}  # fmt: skip
_LINES = frozenset(["p", "ab", "head", "l", "item", "title", "label", "speaker", "stage", "tr", "row", "td", "quote",
                    "disp-quote", "disp-formula", "caption", "cell", "th", "note", "fn", "list-item"])  # fmt: skip
_BREAKS = frozenset({"lb", "break", "pb"})
_DROPPED = frozenset({"teiHeader", "object-id", "tex-math", "figDesc", "graphic"})


@dataclass(frozen=True)
class MarkedUpTexts:
    """Reads texts. A file above `max_bytes` is rejected, and so is a file that declares entities."""

    max_bytes: int = 4 * MAX_ROW_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns shards of files, in order of name."""
        return file_shards(in_order(files))

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the texts from number `start` on."""
        return document_chunks(shard, start, _rows, _TYPES, self.max_bytes)


ADAPTER = MarkedUpTexts


def _rows(data: bytes, file: SourceFile) -> Rows:
    root = xml_tree(data)
    source = decoded(data, file.name)[0]
    if root.name in ("TEI", "TEI.2"):
        yield {**_tei(root), "source": source}
    elif root.name == "article":
        yield {**_article(root), "source": source}
    elif texts := [
        *root.all_named("TEI", "TEI.2", "article")
    ]:  # not for a corpus or a set of articles, because its source would be repeated in each row
        for text in texts:
            yield _article(text) if text.name == "article" else _tei(text)
    else:
        raise ValueError(f"the root <{root.name}> is neither of TEI nor of JATS")


def _tei(text: XmlElement) -> dict[str, Any]:
    header = text.first("teiHeader", "fileDesc") or XmlElement("", {})
    about = header.first("titleStmt") or header
    return {
        "text": _lines_of(text),
        "title": _words(about.first("title")),
        "authors": [e.words() for e in about.children("author")],
        "language": text.attributes.get("xml:lang"),
        "date": _words(header.first("publicationStmt", "date")),
    }


def _article(article: XmlElement) -> dict[str, Any]:
    about = article.first("front", "article-meta") or XmlElement("", {})
    title = _words(about.first("title-group", "article-title"))
    abstract = about.first("abstract")
    summary = _lines_of(abstract) if abstract is not None else ""
    body = "\n".join(filter(None, (_lines_of(part) for part in article.children("body"))))
    ids = {e.attributes.get("pub-id-type", "other"): e.words() for e in about.children("article-id")}
    names = [e.first("name") for e in about.all_named("contrib") if e.attributes.get("contrib-type") == "author"]
    dates = [e.first("year") for e in about.children("pub-date")]
    return {
        "text": "\n\n".join(filter(None, (title, summary, body))),
        "title": title,
        "authors": [
            " ".join(filter(None, (_words(n.first("given-names")), _words(n.first("surname"))))) for n in names if n
        ],
        "language": article.attributes.get("xml:lang"),
        "abstract": summary or None,
        "journal": _words(next(article.all_named("journal-title"), None)),
        "year": next((_words(year) for year in dates if year is not None), None),
        **{f"id.{kind}": value for kind, value in ids.items()},
    }


def _words(element: XmlElement | None) -> str | None:
    return element.words() or None if element is not None else None


def _lines_of(element: XmlElement) -> str:
    lines: list[list[str]] = [[]]
    _collect(element, lines)
    joined = (" ".join("".join(line).split()) for line in lines)
    return "\n".join(line for line in joined if line)


def _collect(element: XmlElement, lines: list[list[str]]) -> None:
    for part in element.parts:
        if isinstance(part, str):
            lines[-1].append(part)
        elif part.name in _BREAKS:
            lines[-1].append(" ")
        elif part.name not in _DROPPED:
            if part.name in _LINES:
                lines.append([])
            _collect(part, lines)
            if part.name in _LINES:
                lines.append([])


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files of TEI and JATS."""
    return claim_all(source, MarkedUpTexts(), "texts in TEI or JATS", kind="text")
