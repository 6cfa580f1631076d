"""A filter as a tree of fields, comparisons and boolean operators."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal as OneOf

from choline_data.errors import InvalidPredicateError

MAX_BYTES = 64 << 10


MAX_NODES = 1000


MAX_DEPTH = 50


MAX_PATTERN = 1000


Value = str | int | float | bool


Type = OneOf["text", "number", "time", "any", "items"]


# The fields and their types. `items` is a list, which has a length and can be null. `any` is a JSON value.
FIELDS: dict[str, Type] = {
    "text": "text",
    "kind": "text",
    "license": "text",
    "language": "text",
    "url": "text",
    "time": "time",
    "turns": "items",
    "media": "items",
    "media.mime": "text",
    "label": "text",
    "label.value": "text",
    "label.score": "number",
    "extra": "text",
    "origin.file": "text",
    "origin.row": "number",
}


@dataclass(frozen=True)
class Field:
    """A field of the schema, or a value in `extra` with its path."""

    name: str
    path: tuple[str, ...] = ()

    @property
    def type(self) -> Type:
        """The type of the values that the field can be compared with."""
        return "any" if self.path else FIELDS[self.name]

    def __str__(self) -> str:
        steps = (step if _PLAIN.fullmatch(step) else _quoted(step) for step in self.path)
        return ".".join((self.name, *steps))


@dataclass(frozen=True)
class Length:
    """The number of characters or items of a field."""

    field: Field

    @property
    def type(self) -> Type:
        """The type of a length, which is "number"."""
        return "number"

    def __str__(self) -> str:
        return f"len({self.field})"


@dataclass(frozen=True)
class Compare:
    """True if the operand has this relation to the value."""

    operand: Field | Length
    relation: str
    value: Value

    def __str__(self) -> str:
        return f"{self.operand} {self.relation} {_literal(self.value)}"


@dataclass(frozen=True)
class In:
    """True if the operand equals one of the values."""

    operand: Field | Length
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.operand} in ({', '.join(map(_literal, self.values))})"


@dataclass(frozen=True)
class Like:
    """True if the text matches the pattern: % matches any text, _ matches one character."""

    field: Field
    pattern: str

    def __str__(self) -> str:
        return f"{self.field} like {_quoted(self.pattern)}"


@dataclass(frozen=True)
class IsNull:
    """True if the sample does not have the field."""

    field: Field

    def __str__(self) -> str:
        return f"{self.field} is null"


@dataclass(frozen=True)
class Not:
    """True if the term is false. Unknown (neither true nor false) if the term is unknown."""

    term: Node

    def __str__(self) -> str:
        if isinstance(self.term, IsNull):
            return f"{self.term.field} is not null"
        return f"not ({self.term})" if isinstance(self.term, And | Or) else f"not {self.term}"


@dataclass(frozen=True)
class And:
    """True if every term is true."""

    terms: tuple[Node, ...]

    def __str__(self) -> str:
        return " and ".join(f"({term})" if isinstance(term, Or | And) else str(term) for term in self.terms)


@dataclass(frozen=True)
class Or:
    """True if at least one term is true."""

    terms: tuple[Node, ...]

    def __str__(self) -> str:
        return " or ".join(f"({term})" if isinstance(term, Or) else str(term) for term in self.terms)


Node = Compare | In | Like | IsNull | Not | And | Or


@dataclass(frozen=True)
class Predicate:
    """A parsed `where` filter."""

    tree: Node

    @cached_property
    def text(self) -> str:
        """The normal form of the filter. It is equal for texts that differ only in blanks, quotes, case of keywords and
        redundant brackets.
        """
        return str(self.tree)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The fields that the predicate reads, without duplicates."""
        return tuple(dict.fromkeys(_fields(self.tree)))


def _fields(node: Node) -> Iterator[Field]:
    match node:
        case And() | Or():
            for term in node.terms:
                yield from _fields(term)
        case Not():
            yield from _fields(node.term)
        case Compare() | In():
            yield node.operand.field if isinstance(node.operand, Length) else node.operand
        case Like() | IsNull():
            yield node.field


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _invalid(what: str, offset: int, remedy: str = "") -> InvalidPredicateError:
    return InvalidPredicateError(
        f"The filter `where` has an error at character {offset}: {what}.",
        remedy=remedy + "." if remedy else "Example: language = 'en' and len(text) > 200.",
        offset=offset,
    )


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def moment(text: str) -> datetime:
    """Returns the time of an ISO 8601 text. Without an offset it is UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
