"""Search over cards: free words, and filters such as `license:mit`, `kind:chat` and `language:de`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from choline_data.catalog.cards import GATES, Card
from choline_data.errors import InvalidOptionError, UnknownFieldError, nearest
from choline_data.licenses import CLASSES, licenses_in, spdx_of
from choline_data.schema import KINDS

_FILTER = re.compile(r"([A-Za-z_]+):(?!//)(.*)\Z", re.DOTALL)
_WORD = re.compile(r"[^\W_]+")
_VERSION = re.compile(r"-\d[\d.]*(-only|-or-later)?\Z")


def search(cards: Iterable[Card], query: Sequence[str]) -> list[Card]:
    """Returns the cards that match every term of `query`, best first. For an empty query, all cards by name."""
    tests: list[Callable[[Card], bool]] = []
    words: list[str] = []
    for term in (part for text in query for part in text.split()):
        match = _FILTER.match(term)
        if match is None:
            words += [word.lower() for word in _WORD.findall(term)]
            continue
        key, value = match[1].lower(), match[2].lower()
        if key not in _FILTERS:
            raise UnknownFieldError(key, _FILTERS, where="search")
        tests.append(_FILTERS[key](value))
    matches = [
        (-sum(points), card.name, card)
        for card in cards
        if all(test(card) for test in tests) and all(points := [_points(card, word) for word in words])
    ]
    return [card for _, _, card in sorted(matches, key=lambda entry: entry[:2])]


def _points(card: Card, word: str) -> int:
    """Returns how well a word matches the card; 0 means no match. A match in the name counts more than one in the tags,
    and this more than one in prose.
    """
    if word == card.name:
        return 100
    best = 0
    for weight, text in (
        (40, card.name),
        (30, " ".join(card.tags)),
        (30, " ".join(card.languages)),
        (20, card.title),
        (20, " ".join((card.source, *card.aliases))),
        (10, card.description),
    ):
        words = _WORD.findall(text.lower())
        if word in words:
            best = max(best, weight)
        elif any(part.startswith(word) for part in words):
            best = max(best, weight // 2)
    return best


def _license(value: str) -> Callable[[Card], bool]:
    """Returns a test of cards for a licence class (`permissive`), an SPDX id in any case, or an SPDX id without its
    version (`cc-by`).
    """
    if value in CLASSES:
        return lambda card: card.license_class == value
    wanted = {value, spdx_of(value).lower()} if value not in ("", "other") else {"noassertion"}

    def fits(card: Card) -> bool:
        ids = [spdx.lower() for spdx in licenses_in(card.license)]
        return any(spdx in wanted or _VERSION.sub("", spdx) in wanted for spdx in ids)

    return fits


def _exactly(key: str, choices: tuple[str, ...]) -> Callable[[str], Callable[[Card], bool]]:
    def test(value: str) -> Callable[[Card], bool]:
        if value not in choices:
            near = nearest(value, choices)
            raise InvalidOptionError(
                f"There is no {key} {value[:80]!r}.",
                remedy=f"Did you mean {key}:{near}?" if near else f"It is one of {', '.join(choices)}.",
            )
        return lambda card: getattr(card, key) == value

    return test


def _language(value: str) -> Callable[[Card], bool]:
    """Returns a test of cards for a language tag or its first subtag: `de` finds `de`, `de-AT` and `de_Latn`."""
    return lambda card: any(value in (tag.lower(), re.split("[-_]", tag.lower())[0]) for tag in card.languages)


def _tag(value: str) -> Callable[[Card], bool]:
    return lambda card: value in card.tags


_FILTERS: Final[Mapping[str, Callable[[str], Callable[[Card], bool]]]] = MappingProxyType(
    {
        "license": _license,
        "kind": _exactly("kind", KINDS),
        "gate": _exactly("gate", GATES),
        "language": _language,
        "tag": _tag,
    }
)
