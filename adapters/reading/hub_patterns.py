"""Matches the file patterns of hub cards, by the rules of the `datasets` library."""

from __future__ import annotations

import re
from collections.abc import Iterable

from choline_data.adapters.base import SourceFile

_META = re.compile(
    r"(?:^|/)(?:README\.md|LICEN[CS]E[^/]*|\.git[^/]*|dataset_infos\.json|CITATION[^/]*)$", re.IGNORECASE
)


def matching(pattern: str, files: Iterable[SourceFile]) -> tuple[SourceFile, ...]:
    """Returns the files that match a pattern of a card. A folder's name matches all files in it."""
    pattern = re.sub(r"^(?:\./)+", "", pattern.strip())
    rule = glob_rule(pattern)
    below = glob_rule(pattern.rstrip("/") + "/**")
    return tuple(f for f in files if rule.match(f.name) or below.match(f.name))


def glob_rule(pattern: str) -> re.Pattern[str]:
    """Returns the glob pattern as a regular expression.

    `*` and `?` do not match "/", `**` does. `[ab]` and `{a,b}` match alternatives.
    """
    out, at, open_braces = "", 0, 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**/", at):
            out, at = out + "(?:[^/]+/)*", at + 3
            continue
        if pattern.startswith("**", at):
            out, at = out + ".*", at + 2
            continue
        end = pattern.find("]", at + 2) if char == "[" else -1
        if end > 0:
            body = pattern[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            out, at = out + "[" + ("^" + body[1:] if body[:1] == "!" else body) + "]", end + 1
            continue
        if char == "{" and "}" in pattern[at:]:
            out, open_braces = out + "(?:", open_braces + 1
        elif char == "}" and open_braces:
            out, open_braces = out + ")", open_braces - 1
        elif char == "," and open_braces:
            out += "|"
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
        at += 1
    return re.compile(out + ")" * open_braces + r"\Z", re.DOTALL)


def data_files(files: Iterable[SourceFile]) -> tuple[SourceFile, ...]:
    """Returns the files that may hold rows, without README, licence, citation and git files."""
    return tuple(f for f in files if not _META.search(f.name))
