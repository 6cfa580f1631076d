"""Asks an open question of `add` at the terminal, and adds the answer to the options."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, replace
from typing import Any

from choline_data.catalog.planning import Wishes
from choline_data.errors import ChoiceNeededError

MOST_QUESTIONS = 16
_FIELDS = {
    "as": "as_kind",
    "format": "format",
    "encoding": "encoding",
    "header": "header",
    "delimiter": "delimiter",
    "config": "config",
    "split": "split",
    "config-by": "config_by",
    "split-by": "split_by",
    "include": "include",
    "exclude": "exclude",
    "join": "join",
}
_LISTED = frozenset({"include", "exclude", "join"})
# options that take PATTERN=VALUE to set a value for some files
_BY_COMMAS = frozenset({"encoding", "header", "delimiter"})
_OPTION = re.compile(r"--([a-z-]+) ((?:'[^']*'|[^\s,|();'])+)")
# placeholders: the user has to write a value in their place
_OPEN = re.compile(r"\b(?:COLUMN|CHARACTER|NAME|LINE|PATTERN|WHAT|FILE)\b|…")


@dataclass(frozen=True)
class Answer:
    """The options of one answer, and the words of the question for it."""

    options: tuple[tuple[str, str], ...]
    shown: str

    def add_to(self, wishes: Wishes) -> Wishes:
        """Returns the options with those of the answer."""
        for option, value in self.options:
            field = _FIELDS[option]
            before: Any = getattr(wishes, field)
            after: Any = value
            if option in _LISTED:
                after = (*before, value)
            elif option in _BY_COMMAS and before:
                after = f"{before},{value}"
            changed: dict[str, Any] = {field: after}
            wishes = replace(wishes, **changed)
        return wishes


def answers_to(remedy: str) -> list[Answer]:
    """Returns the flags that the remedy of a question names as answers. Leaves out a flag whose value the user has to fill in."""
    remedy = remedy.removeprefix("Choose: ")
    pieces = remedy.split(" | ") if " | " in remedy else [option[0] for option in _OPTION.finditer(remedy)]
    option: dict[tuple[tuple[str, str], ...], Answer] = {}
    for piece in pieces:
        stated = piece.split(" (")[0] if " | " in remedy else piece
        pairs = [(name, "".join(shlex.split(value)).rstrip(".")) for name, value in _OPTION.findall(stated)]
        if pairs and not _OPEN.search(stated) and all(name in _FIELDS for name, _ in pairs):
            option.setdefault(tuple(pairs), Answer(tuple(pairs), piece.strip()))
    return list(option.values())


def ask(error: ChoiceNeededError, wishes: Wishes) -> Wishes:
    """Asks the user, and returns the options with the answer. Raises `error` if there is no answer."""
    answers = answers_to(error.remedy)
    if not answers:
        raise error
    sys.stderr.write(f"{error.message}\n")
    for number, answer in enumerate(answers, 1):
        sys.stderr.write(f"  {number}. {answer.shown}\n")
    sys.stderr.write(f"Which? [1-{len(answers)}] ")
    sys.stderr.flush()
    reply = sys.stdin.readline().strip()
    if reply.isdigit() and 1 <= int(reply) <= len(answers):
        return answers[int(reply) - 1].add_to(wishes)
    named = next((answer for answer in answers if reply and reply == answer.options[-1][1]), None)
    if named is None:
        raise error
    return named.add_to(wishes)
