"""Recognises error pages that were saved as data: a server answered a download with a message, and the message became a
file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading import io
from choline_data.errors import CholineDataError, SourceDamagedError, one_line
from choline_data.places.locations import is_url

MOST_OPENED, MOST_FETCHED = 64, 4
MAX_PAGE_BYTES = 1 << 20
HEAD_BYTES = 4 << 10
# Files with these names are meant to be pages or markup, or may hold any text.
_PAGES = frozenset(
    {"html", "htm", "xhtml", "xml", "svg", "md", "rst", "txt", "text", "php", "js", "jsx", "tsx", "vue", ""}
)
_BLANK = rb"^(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*"
_MARKS = (
    (re.compile(_BLANK + rb"(?:<\?xml[^>]*>\s*)?<Error>\s*<Code>\s*(?P<title>[^<]*)", re.I | re.S), "an error of an object store"),
    (re.compile(_BLANK + rb"<(?:!doctype\s+html|html|head|body)\b.*?<title[^>]*>\s*(?P<title>[^<]*)", re.I | re.S), "a web page"),
    (re.compile(_BLANK + rb"<(?:!doctype\s+html|html|head|body)\b(?P<title>)", re.I | re.S), "a web page"),
    (
        re.compile(rb'^\s*\{\s*"errors?"\s*:\s*(?P<title>"[^"]*"|[\[{][^{}]*\}\]?)\s*(?:,[^\n]{0,300})?\}\s*$', re.S),
        "the error message of a server",
    ),
    (
        re.compile(rb"^\s*(?P<title>(?:40[0-9]|5[0-9]{2})[: ][^\n]{0,80}|Not Found|Access denied|Forbidden|Bad Gateway"
                   rb"|Entry not found|Repository not found|Invalid username or password\.?)\s*$", re.I),
        "the error message of a server",
    ),
)  # fmt: skip


def refuse_error_pages(files: Iterable[SourceFile]) -> None:
    """Raises SourceDamagedError if one of the first files is an error page, although its name is that of data."""
    small = [f for f in files if f.size <= MAX_PAGE_BYTES and io.extension(f.name) not in _PAGES]
    most = MOST_FETCHED if any(is_url(f.path) for f in small[:1]) else MOST_OPENED
    for file in small[:most]:
        what = page_of(file)
        if what:
            raise SourceDamagedError(
                f"{file.name} is not .{io.extension(file.name)} data but {what}.",
                remedy="Fetch the file again, and look at its address in a browser; it may need a login.",
            )


def page_of(file: SourceFile) -> str:
    """Returns in words which kind of page the file is; "" if it is not a page."""
    try:
        head = io.head(file.path, HEAD_BYTES)
    except CholineDataError:
        return ""
    for mark, what in _MARKS:
        match = mark.match(head)
        if match:
            title = match["title"].decode("utf-8", "replace").strip().strip('"')
            return f"{what}{f': {one_line(title, 120)}' if title else ''}"
    return ""
