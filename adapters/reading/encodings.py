"""Detects a text's encoding: by byte order mark, then as UTF-8, then by the file name, else as a Latin encoding."""

from __future__ import annotations

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = {
    "latin2": "iso8859-2", "cyrillic": "iso8859-5", "arabic": "iso8859-6", "greek": "iso8859-7",
    "hebrew": "iso8859-8", "turkish": "iso8859-9", "baltic": "iso8859-4", "sjis": "shift_jis", "jis": "iso2022_jp",
    "euc": "euc_jp", "gb2312": "gb18030", "hz": "hz", "unicode": "utf-16", "latin1": "cp1252", "utf8": "utf-8",
    "big5": "big5", "koi8": "koi8_r",
}  # fmt: skip


def declared_in(name: str) -> str:
    """The encoding that a file name declares after its last "-" (such as `notes-Latin2.txt`), or ""."""
    match = re.search(r"-([A-Za-z0-9+_]+)~?(\.txt)?$", name)
    if not match:
        return ""
    word = match.group(1).lower()
    if word in _DECLARED:
        return _DECLARED[word]
    try:
        return codecs.lookup(word).name if codecs.lookup(word)._is_text_encoding else ""
    except LookupError:
        return ""


def decoded(data: bytes, name: str = "") -> tuple[str, str]:
    """The text and its encoding. Never fails: the last choice, ISO 8859-1, decodes any bytes."""
    mark = next((e for m, e in _MARKS if data.startswith(m)), "")
    declared = declared_in(name)
    # UTF-16 without a mark can be valid UTF-8 with many NULs.
    wide = declared if declared.startswith("utf-16") and b"\x00" in data else ""
    for encoding in (mark, wide, "utf-8", declared, "cp1252"):
        if encoding:
            try:
                return data.decode(encoding), encoding.removesuffix("-sig")
            except (UnicodeError, ValueError):
                continue
    return data.decode("latin-1"), "iso8859-1"


def looks_like_text(head: bytes) -> bool:
    """Whether these first bytes are text in an encoding that we read: at most 0.5 % are control characters."""
    if not head:
        return True
    if any(head.startswith(m) for m, _ in _MARKS):
        return True
    control = sum(head.count(c) for c in _CONTROLS)
    return control * 200 <= len(head)


_CONTROLS = tuple(bytes([c]) for c in range(32) if c not in b"\t\n\r\x0c\x08\x1b\x0e\x0f")
