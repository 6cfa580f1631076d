"""Converts the elements of an XML file to rows. For well-known kinds of files, the rows have the columns that training
uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape, quoteattr

_ATTRIBUTE, _TEXT = "@", "#text"


@dataclass
class XmlElement:
    """An element of XML. `parts` holds its text and its children, in order. `languages` are those of a translation
    file.
    """

    name: str
    attributes: dict[str, str]
    parts: list[str | XmlElement] = field(default_factory=list)
    languages: tuple[str, str] = ("source", "target")

    def children(self, name: str = "") -> list[XmlElement]:
        """Returns the child elements, or only those with this name."""
        return [p for p in self.parts if isinstance(p, XmlElement) and name in ("", p.name)]

    def first(self, *path: str) -> XmlElement | None:
        """Returns the first element on this path of names, or None."""
        found: XmlElement | None = self
        for name in path:
            found = next(iter(found.children(name)), None) if found is not None else None
        return found

    def all_named(self, *names: str) -> Iterator[XmlElement]:
        """Yields the elements with these names, at any depth, in order. Does not look into an element that it yields."""
        for child in self.children():
            if child.name in names:
                yield child
            else:
                yield from child.all_named(*names)

    def words(self) -> str:
        """Returns the text within the element and its children, with single blanks."""
        return " ".join(self._text().split())

    def _text(self) -> str:
        return "".join(part if isinstance(part, str) else part._text() for part in self.parts)


def local_name(name: str) -> str:
    """Returns the name without its prefix. Names of the namespace `xml` keep it."""
    prefix, colon, local = name.rpartition(":")
    return name if not colon or prefix == "xml" else local


def rows_of_element(element: XmlElement) -> Iterator[dict[str, Any]]:
    """Yields the row of a record. A unit of XLIFF 2 has a row for each of its segments."""
    if element.name == "tu":
        yield _translations(element)
        return
    if element.name == "trans-unit":
        yield _translated(element, element, {})
        return
    if element.name == "unit" and element.children("segment"):
        for segment in element.children("segment"):
            yield _translated(element, segment, {f"segment.{k}": v for k, v in segment.attributes.items()})
        return
    value = value_of(element)
    row = value if isinstance(value, dict) else {"text": value}
    row = {
        name.removeprefix(_ATTRIBUTE) if name.removeprefix(_ATTRIBUTE) not in row else name: v
        for name, v in row.items()
    }
    if element.name == "page" and "revision" in row:
        row = _page(row)
    elif element.name == "PubmedArticle":
        row = _cited(element) | row
    elif element.name in ("item", "entry") and "text" not in row and "title" in row:
        row = {"text": _news(row)} | row
    yield row


def value_of(element: XmlElement) -> Any:
    """Returns the value of an element: its text, a mapping of its children, or, if it mixes text and children, its
    content as XML.
    """
    children = element.children()
    text = "".join(part for part in element.parts if isinstance(part, str))
    attributes = {_ATTRIBUTE + name: value for name, value in element.attributes.items()}
    if children and text.strip():
        inner = _inner_xml(element)
        return {**attributes, _TEXT: inner} if attributes else inner
    if not children:
        return {**attributes, **({_TEXT: text} if text.strip() else {})} if attributes else text
    values: dict[str, Any] = dict(attributes)
    for name in dict.fromkeys(child.name for child in children):
        same = [value_of(child) for child in children if child.name == name]
        values[name] = same[0] if len(same) == 1 else same
    return values


def _inner_xml(element: XmlElement) -> str:
    return "".join(map(_xml, element.parts))


def _xml(part: str | XmlElement) -> str:
    if isinstance(part, str):
        return escape(part)
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in part.attributes.items())
    inner = _inner_xml(part)
    return f"<{part.name}{attributes}>{inner}</{part.name}>" if inner else f"<{part.name}{attributes}/>"


def _text(element: XmlElement | None) -> str | None:
    """Returns the content of an element: its text, with the elements within it as XML."""
    if element is None:
        return None
    return _inner_xml(element) if element.children() else "".join(p for p in element.parts if isinstance(p, str))


def _translations(unit: XmlElement) -> dict[str, Any]:
    """Returns a unit of TMX: a column for each language."""
    row: dict[str, Any] = {name: value for name, value in unit.attributes.items() if name == "tuid"}
    for variant in unit.children("tuv"):
        language = variant.attributes.get("xml:lang") or variant.attributes.get("lang") or "text"
        segment = variant.first("seg")
        if segment is not None:
            row[language] = value_of(segment)
    return row


def _translated(unit: XmlElement, segment: XmlElement, more: dict[str, Any]) -> dict[str, Any]:
    """Returns a unit of XLIFF: the text and its translation, each under the name of its language."""
    source, target = unit.languages
    texts = {source: _text(segment.first("source")), target: _text(segment.first("target"))}
    rest = XmlElement(
        unit.name, unit.attributes, [c for c in unit.children() if c.name not in ("source", "target", "segment")]
    )
    about = value_of(rest)
    row = {k.removeprefix(_ATTRIBUTE): v for k, v in about.items()} if isinstance(about, dict) else {}
    for name in ("source", "target"):
        child = segment.first(name)
        row |= {f"{name}.{k}": v for k, v in child.attributes.items()} if child is not None else {}
    row = {(f"unit.{k}" if k in texts else k): v for k, v in row.items()}
    return row | more | texts


def _page(row: dict[str, Any]) -> dict[str, Any]:
    """Converts the row of a MediaWiki page with one revision: the text and the time of the revision become columns."""
    revision = row["revision"]
    if not isinstance(revision, dict):
        return row
    text = revision.pop("text", "")
    return {
        **row,
        "text": text.get(_TEXT, "") if isinstance(text, dict) else text,
        "timestamp": revision.get("timestamp"),
    }


def _cited(article: XmlElement) -> dict[str, Any]:
    """Returns the number, the title and the abstract of an article of PubMed. `text` is the title and the abstract."""
    about = article.first("MedlineCitation", "Article") or article
    title = _text(about.first("ArticleTitle")) or ""
    sections = about.first("Abstract")
    texts = [
        ": ".join(filter(None, (part.attributes.get("Label"), _text(part))))
        for part in (sections.children("AbstractText") if sections is not None else [])
    ]
    return {
        "pmid": _text(article.first("MedlineCitation", "PMID")),
        "title": title,
        "text": "\n\n".join(filter(None, [title, *texts])),
    }


def _news(row: dict[str, Any]) -> str:
    """Returns the content of an entry of RSS or Atom, or else its summary, or else its title."""
    for name in ("encoded", "content", "description", "summary", "title"):
        value = row.get(name)
        text = value.get(_TEXT) if isinstance(value, dict) else value
        if isinstance(text, str) and text.strip():
            return text
    return ""
