"""The `where` language: a boolean expression over the fields of a sample. It is parsed to our own tree, never to SQL.

    language = 'en' and len(text) >= 200
    kind in ('chat', 'qa') and not (extra.source like 'wiki%' or extra.score < 0.5)
    time >= '2024-01-01' and label is not null

Fields are the text fields of the schema, `turns`, `media`, `time`, `origin.file`, `origin.row`, `label`, `label.value`,
`label.score` (of the first label), `media.mime` (of the first medium), and `extra.key`, with dots for nested JSON and
quotes for a key that is not a word. `len` counts characters of text, and items of `turns`, `label` and `media`. In a
pattern of `like`, % matches any text and _ matches one character. If a sample lacks a field, or the field has another
type there, a comparison with the field is not true, and its `not` is not true either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from choline_data.errors import UnknownFieldError, one_line
from choline_data.where.predicate import (
    FIELDS,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    MAX_PATTERN,
    And,
    Compare,
    Field,
    In,
    IsNull,
    Length,
    Like,
    Node,
    Not,
    Or,
    Predicate,
    Value,
    _invalid,
    moment,
)


def parse_where(text: str) -> Predicate:
    """Parses a `where`. Raises InvalidPredicateError with the offset of the error, or UnknownFieldError, which suggests
    the nearest name.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _invalid(f"it is longer than {MAX_BYTES} bytes", MAX_BYTES, "Shorten it")
    return Predicate(_Parser(text).whole())


_TOKEN = re.compile(
    r"""(?P<blank>\s+)
      | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<sign><=|>=|<>|!=|==|=|<|>|\(|\)|,|\.)""",
    re.VERBOSE,
)
_RELATIONS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_TURNED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_KEYWORDS = frozenset({"and", "or", "not", "in", "like", "is", "null", "true", "false"})


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def keyword(self) -> str:
        lower = self.text.lower()
        return lower if self.kind == "word" and lower in _KEYWORDS else ""

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(one_line(self.text, 40))


def _tokens(text: str) -> list[_Token]:
    out = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            what = "a string does not end" if text[at] in "'\"" else f"{text[at]!r} has no meaning here"
            raise _invalid(what, at)
        if match.lastgroup != "blank":
            out.append(_Token(str(match.lastgroup), match.group(), at))
        at = match.end()
    out.append(_Token("end", "", len(text)))
    return out


class _Parser:
    """A recursive-descent parser with one method per rule. Limits the number of nodes and the depth."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._nodes = 0
        self._depth = 0

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _takes(self, *texts: str) -> bool:
        """If the next tokens are these keywords or signs, consumes them and returns True. Otherwise returns False."""
        ahead = self._tokens[self._at : self._at + len(texts)]
        if [token.keyword or (token.text if token.kind == "sign" else "") for token in ahead] != list(texts):
            return False
        self._at += len(texts)
        return True

    def _must(self, sign: str, why: str) -> None:
        if not self._takes(sign):
            raise _invalid(f"{why}, not {self._next}", self._next.at)

    def _count(self, at: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _invalid(f"it has more than {MAX_NODES} parts", at, "Shorten it")

    def whole(self) -> Node:
        tree = self._or()
        if self._next.kind != "end":
            raise _invalid(f"{self._next} follows after the end of the expression", self._next.at)
        return tree

    def _or(self) -> Node:
        terms = [self._and()]
        while self._takes("or"):
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else Or(_flat(Or, terms))

    def _and(self) -> Node:
        terms = [self._not()]
        while self._takes("and"):
            terms.append(self._not())
        return terms[0] if len(terms) == 1 else And(_flat(And, terms))

    def _not(self) -> Node:
        at = self._next.at
        self._count(at)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _invalid(f"it is nested more than {MAX_DEPTH} levels deep", at, "Remove brackets")
        if self._takes("not"):
            term: Node = _negated(self._not())
        elif self._takes("("):
            term = self._or()
            self._must(")", "a bracket is not closed")
        else:
            term = self._comparison()
        self._depth -= 1
        return term

    def _comparison(self) -> Node:
        start = self._next
        left = self._operand()
        if not isinstance(left, Field | Length):
            relation = self._relation()
            right_at = self._next.at
            right = self._operand()
            if not isinstance(right, Field | Length):
                raise _invalid("it compares two constants", start.at)
            return Compare(right, _TURNED[relation], _fitting(right, left, right_at))
        if self._takes("is"):
            wants_null = not self._takes("not")
            self._must("null", "'is' must be followed by 'null' or 'not null'")
            if not isinstance(left, Field):
                raise _invalid("a length is never null", start.at)
            return IsNull(left) if wants_null else Not(IsNull(left))
        if self._takes("not", "in"):
            return Not(self._in(left))
        if self._takes("in"):
            return self._in(left)
        if self._takes("not", "like"):
            return Not(self._like(left))
        if self._takes("like"):
            return self._like(left)
        relation = self._relation()
        at = self._next.at
        value = self._operand()
        if isinstance(value, Field | Length):
            raise _invalid("it compares two fields", at, "Compare a field with a constant")
        return Compare(left, relation, _fitting(left, value, at))

    def _relation(self) -> str:
        token = self._take()
        if token.kind != "sign" or token.text not in _RELATIONS:
            raise _invalid(f"a comparison is expected, not {token}", token.at)
        return _RELATIONS[token.text]

    def _in(self, operand: Field | Length) -> Node:
        self._must("(", "'in' must be followed by a list in brackets")
        values = []
        while True:
            at = self._next.at
            value = self._operand()
            if isinstance(value, Field | Length):
                raise _invalid("a list holds constants only", at)
            values.append(_fitting(operand, value, at))
            if not self._takes(","):
                break
        self._must(")", "the list is not closed")
        return In(operand, tuple({(type(value), value): value for value in values}.values()))

    def _like(self, operand: Field | Length) -> Node:
        token = self._take()
        if not isinstance(operand, Field) or operand.type not in ("text", "any"):
            raise _invalid("'like' compares text", token.at)
        if token.kind != "text":
            raise _invalid(f"'like' must be followed by a pattern in quotes, not {token}", token.at)
        self._count(token.at)
        pattern = re.sub("%+", "%", _unquoted(token.text))
        if len(pattern) > MAX_PATTERN:
            raise _invalid(f"the pattern is longer than {MAX_PATTERN} characters", token.at, "Shorten it")
        return Like(operand, pattern)

    def _operand(self) -> Field | Length | Value:
        token = self._take()
        self._count(token.at)
        if token.kind == "text":
            return _unquoted(token.text)
        if token.kind == "number":
            return _number(token)
        if token.keyword in ("true", "false"):
            return token.keyword == "true"
        if token.keyword == "null":
            raise _invalid("nothing can be compared with null", token.at, "Write `is null` or `is not null`")
        if token.kind != "word" or token.keyword:
            raise _invalid(f"a field or a constant is expected, not {token}", token.at)
        if self._next.text != "(":
            return self._field(token)
        if token.text.lower() != "len":
            raise _invalid(f"there is no function {token}", token.at, "There is one: len")
        self._must("(", "len wants brackets")
        inner = self._take()
        if inner.kind != "word" or inner.keyword:
            raise _invalid(f"len needs a field, not {inner}", inner.at)
        field = self._field(inner)
        if field.type not in ("text", "items", "any"):
            raise _invalid(f"{field} has no length", inner.at)
        self._must(")", "the bracket of len is not closed")
        return Length(field)

    def _field(self, first: _Token) -> Field:
        steps = [first.text]
        while self._next.text == "." and self._next.kind == "sign":
            self._at += 1
            token = self._take()
            if token.kind not in ("word", "text", "number"):
                raise _invalid(f"a name is expected after the dot, not {token}", token.at)
            steps.append(_unquoted(token.text) if token.kind == "text" else token.text)
        if steps[0] == "extra" and len(steps) > 1:
            return Field("extra", tuple(steps[1:]))
        name = ".".join(steps)
        if name not in FIELDS:
            raise UnknownFieldError(name, [*FIELDS, "extra.key"], where=f"where, character {first.at}")
        return Field(name)


def _flat(kind: type[And] | type[Or], terms: Sequence[Node]) -> tuple[Node, ...]:
    return tuple(inner for term in terms for inner in (term.terms if isinstance(term, kind) else (term,)))


def _negated(term: Node) -> Node:
    return term.term if isinstance(term, Not) else Not(term)


def _unquoted(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0])


def _number(token: _Token) -> int | float:
    if re.fullmatch(r"-?\d{1,18}", token.text):
        return int(token.text)
    value = float(token.text) if len(token.text) <= 40 else math.inf
    if not math.isfinite(value):
        raise _invalid("the number is too large", token.at, "At most 18 digits")
    return value


def _fitting(operand: Field | Length, value: Value, at: int) -> Value:
    """Returns `value` if the operand can be compared with it. Raises InvalidPredicateError otherwise. `at` is the
    offset for the error.
    """
    kind = operand.type
    if kind == "any":
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "items":
        raise _invalid(f"{operand} is a list", at, f"Compare len({operand}), or write `{operand} is null`")
    if (kind == "number") != is_number or (kind in ("text", "time")) != isinstance(value, str):
        raise _invalid(
            f"{operand} is {'a number' if kind == 'number' else 'text'}",
            at,
            "Compare it with a constant of the same type",
        )
    if kind == "time":
        try:
            moment(str(value))
        except ValueError as error:
            raise _invalid("this is not a time", at, "Write it as '2024-01-31' or '2024-01-31T12:00:00Z'") from error
    return value
