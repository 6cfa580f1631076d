"""Extracts the title and the main text of an HTML page."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_DROPPED = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object", "head"})
_AROUND = frozenset({"nav", "footer", "aside", "header", "form", "button", "select", "dialog"})
_MAIN = frozenset({"main", "article"})
_LINES = frozenset(["p", "div", "br", "li", "ul", "ol", "tr", "table", "section", "blockquote", "pre", "dt", "dd", "hr",
                    "figcaption", "main", "article", "h1", "h2", "h3", "h4", "h5", "h6", "body", "option", "address"])  # fmt: skip
_VOID = frozenset(
    ["br", "hr", "img", "input", "link", "meta", "area", "base", "col", "embed", "source", "track", "wbr"]
)
_ABOUT = ("description", "author", "keywords", "date")


@dataclass
class PageText:
    """The content of a page: its main text, and the values in its `<head>`."""

    text: str = ""
    title: str = ""
    language: str = ""
    url: str = ""
    about: dict[str, str] = field(default_factory=dict)


def page_text(html: str) -> PageText:
    """Returns the text of a page. Scripts and styles are dropped.

    The main text is that of `<main>` or `<article>`, or else that outside of navigation, headers and footers.
    """
    parser = _Page()
    parser.feed(html)
    parser.close()
    return parser.found()


class _Page(HTMLParser):
    """Collects the pieces of text of a page, and for each piece whether it is in the main text or in the navigation."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._page = PageText()
        self._pieces: list[tuple[str, bool, bool]] = []  # text, within the main text, within navigation
        self._inside = dict.fromkeys((*_DROPPED, *_AROUND, *_MAIN, "title", "pre", "body"), 0)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Records the start of an element, because it decides where the following text belongs."""
        attributes = {name: value or "" for name, value in attrs}
        if tag == "html":
            self._page.language = attributes.get("lang") or attributes.get("xml:lang") or ""
        elif tag == "meta" and attributes.get("name", "").lower() in _ABOUT:
            self._page.about.setdefault(attributes["name"].lower(), attributes.get("content", ""))
        elif tag == "link" and attributes.get("rel", "").lower() == "canonical":
            self._page.url = attributes.get("href", "")
        if tag == "body":
            self._inside["head"] = 0  # an unclosed <head> ends here
        if tag in _LINES:
            self._add("\n")
        elif tag in ("td", "th"):
            self._add("\t")
        if tag in self._inside and tag not in _VOID:
            self._inside[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        """Records the end of an element."""
        if self._inside.get(tag, 0):
            self._inside[tag] -= 1
        if tag in _LINES:
            self._add("\n")

    def handle_data(self, data: str) -> None:
        """Adds a piece of text."""
        if self._inside["title"] and not self._inside["svg"] and not self._inside["body"]:
            self._page.title += data
        else:
            text = data if self._inside["pre"] else re.sub(r"\s+", " ", data)
            blank = bool(self._pieces) and self._pieces[-1][0].endswith((" ", "\n")) and not self._inside["pre"]
            self._add(text.removeprefix(" ") if blank else text)

    def _add(self, text: str) -> None:
        if not any(self._inside[tag] for tag in _DROPPED):
            main, around = (any(self._inside[tag] for tag in tags) for tags in (_MAIN, _AROUND))
            self._pieces.append((text, main, around))

    def found(self) -> PageText:
        """Returns the page. If an element was never closed, nothing of it is left out."""
        unclosed = any(self._inside[tag] for tag in _AROUND)
        body = [text for text, main, around in self._pieces if main and (unclosed or not around)]
        rest = [text for text, _, around in self._pieces if unclosed or not around]
        texts = (_tidy("".join(pieces)) for pieces in (body, rest, [text for text, _, _ in self._pieces]))
        self._page.text = next((text for text in texts if text), "")
        self._page.title = " ".join(self._page.title.split())
        return self._page


def _tidy(text: str) -> str:
    lines = (re.sub(r" *\t *", "\t", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
