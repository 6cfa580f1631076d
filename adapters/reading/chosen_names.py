"""The files that a user chooses with `--include` and `--exclude`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from choline_data.adapters.base import Source
from choline_data.adapters.reading.hub_patterns import glob_rule
from choline_data.adapters.reading.names import parts


@dataclass(frozen=True)
class ChosenNames:
    """The user's patterns of file names. A pattern without "/" matches a file's own name, or one of its folders; `**`
    matches any folders.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def why_not(self, name: str) -> str:
        """Returns the reason why the patterns leave this file out. "" if they choose it."""
        for pattern, rule in self._excluding:
            if _matches(rule, pattern, name):
                return f"--exclude {pattern}"
        if self.include and not self.names(name):
            return f"not in --include {' '.join(self.include)}"
        return ""

    def names(self, name: str) -> bool:
        """Whether a pattern of `--include` matches this file."""
        return any(_matches(rule, pattern, name) for pattern, rule in self._including)

    @cached_property
    def _including(self) -> list[tuple[str, re.Pattern[str]]]:
        return _rules(self.include)

    @cached_property
    def _excluding(self) -> list[tuple[str, re.Pattern[str]]]:
        return _rules(self.exclude)


def _rules(patterns: Iterable[str]) -> list[tuple[str, re.Pattern[str]]]:
    return [(pattern, glob_rule(pattern.strip().removeprefix("./").rstrip("/"))) for pattern in patterns]


def _matches(rule: re.Pattern[str], pattern: str, name: str) -> bool:
    path = parts(name)
    if "/" not in pattern.strip().removeprefix("./").rstrip("/"):
        return any(rule.match(part) for part in path)
    return any(rule.match("/".join(path[:end])) for end in range(1, len(path) + 1))


def chosen_of(source: Source) -> ChosenNames:
    """Returns the user's choice among the files of this source."""
    return ChosenNames(source.include, source.exclude)
