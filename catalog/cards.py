"""Cards: YAML files that describe where a dataset is, what its columns mean and which licence it has.

Scalars in a card are always text: `no` is the word "no" and `1.10` keeps its zero. The format is described in `docs/cards.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from choline_data.catalog.card_yaml import Value, parse_yaml
from choline_data.errors import (
    CholineDataError,
    InvalidNameError,
    InvalidOptionError,
    SourceFormatError,
    SourceNotFoundError,
    UnknownDatasetError,
    UnknownFieldError,
    nearest,
)
from choline_data.licenses import MIXED, NOASSERTION, license_class, spdx_of, strictest
from choline_data.places.downloads import open_location
from choline_data.places.locations import check_location, is_url
from choline_data.schema import KINDS

GATES: Final = ("no", "auto", "manual", "unknown")
EVIDENCE: Final = ("card", "catalogue", "code", "audit", "survey", "inferred", "unverified")
FACTS: Final = ("fields", "license", "size", "gate", "kind")
MAX_CARD_BYTES: Final = 256 << 10
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}\Z")


@dataclass(frozen=True)
class Card:
    """What the catalog knows about a dataset. An empty value means unknown."""

    name: str
    source: str
    title: str = ""
    description: str = ""
    revision: str = ""  # revision of the source; empty if it is not pinned
    adapter: str = ""  # name of the adapter; empty if `add` detects it
    configs: tuple[str, ...] = ()  # the names of the configs; `*` stands for a part of a name that varies
    config: str = ""
    split: str = ""
    split_by: str = ""  # the value of `add --split-by`
    config_by: str = ""
    kind: str = ""
    form: str = ""
    mapping: tuple[tuple[str, str], ...] = ()  # (role in the form, source column)
    include: tuple[str, ...] = ()  # patterns of file names, as `add --include`
    exclude: tuple[str, ...] = ()
    encoding: str = ""  # encoding of the text files, as in `add --encoding`
    header: str = ""  # the line that names the columns, as in `add --header`
    delimiter: str = ""  # as in `add --delimiter`
    join: tuple[str, ...] = ()  # columns that name media, as in `add --join`
    license: str = NOASSERTION
    license_audited: str = ""  # the licence that an audit has determined, if it differs from the publisher's statement
    license_field: str = ""  # the source column with each row's own licence
    terms: tuple[str, ...] = ()  # in addition to the licence: terms of the crawl, of the model that wrote the text …
    gate: str = "unknown"
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    size: str = ""  # the size in the publisher's own words
    homepage: str = ""
    citation: str = ""
    # pairs: the name of a fact (one of FACTS), and how it was determined (one of EVIDENCE)
    evidence: tuple[tuple[str, str], ...] = ()
    notes: str = ""

    @property
    def license_class(self) -> str:
        """The class of the licence. If an audit found another licence than the publisher states, the stricter class of
        the two.
        """
        claims = [self.license, self.license_audited] if self.license_audited else [self.license]
        return strictest(license_class(claim) for claim in claims)


def check_name(name: str, where: str = "") -> str:
    """Returns `name`. Raises InvalidNameError if it does not match the pattern of dataset names."""
    if not NAME.match(name) or ".." in name:
        place = f"{where}: " if where else ""
        raise InvalidNameError(
            f"{place}{name!r} can't be the name of a dataset.",
            remedy="Use 1 to 128 of a-z 0-9 . _ - and start with a letter or digit; no '..'.",
        )
    return name


def parse_card(text: str, where: str = "card") -> Card:
    """Parses a card from YAML. `where` is the name that errors show for the text."""
    values = parse_yaml(text, where)
    unknown = next((key for key in values if key not in _READERS), None)
    if unknown is not None:
        raise UnknownFieldError(unknown, _READERS, where=where)
    values_of_card = {key: _READERS[key](value, key, where) for key, value in values.items()}
    for key in ("name", "source"):
        if not values_of_card.get(key):
            raise SourceFormatError(f"{where} has no `{key}`.", remedy=f"Add a line `{key}: …` to the card.")
    card = Card(**values_of_card)
    return replace(card, name=check_name(card.name, where))


def load_card(place: str | Path) -> Card:
    """Loads the card from a file or URL, or the packaged card with this name."""
    text = str(place)
    if isinstance(place, str) and not is_url(text) and NAME.match(text) and not text.endswith((".yaml", ".yml")):
        return card_for(text)
    where = text if is_url(text) else Path(text).name
    try:
        with open_location(text) as file:
            raw = file.read(MAX_CARD_BYTES + 1)
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"There is no card at {text}.", remedy="Check the path.") from error
    except OSError as error:
        raise SourceNotFoundError(
            f"The card at {text} can't be read: {error.strerror or error}.",
            remedy="Check the path and the permissions.",
        ) from error
    return parse_card(_decoded(raw, where), where)


def card_for(name: str) -> Card:
    """Returns the packaged card with this name. UnknownDatasetError suggests the nearest name."""
    if NAME.match(name) and ".." not in name:
        file = _folder().joinpath(f"{name}.yaml")
        if file.is_file():
            return parse_card(file.read_text("utf-8"), f"{name}.yaml")
    raise UnknownDatasetError(name, packaged_names())


@cache
def packaged_names() -> tuple[str, ...]:
    """Returns the names of the packaged cards, sorted. Does not read the cards."""
    return tuple(sorted(f.name.removesuffix(".yaml") for f in _folder().iterdir() if f.name.endswith(".yaml")))


@cache
def packaged_cards() -> Mapping[str, Card]:
    """Returns the packaged cards by name, sorted by name. They are read once, at the first call."""
    return MappingProxyType({name: card_for(name) for name in packaged_names()})


def _folder() -> Any:
    return resources.files("choline_data.catalog").joinpath("cards")


def _decoded(raw: bytes, where: str) -> str:
    if len(raw) > MAX_CARD_BYTES:
        raise SourceFormatError(
            f"{where} has more than {MAX_CARD_BYTES:,} bytes.", remedy="This is not a card; name the file of the card."
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceFormatError(f"{where} is not UTF-8 text.", remedy="Save the card as UTF-8.") from error


def _wrong(where: str, key: str, expected: str, example: str) -> CholineDataError:
    return InvalidOptionError(f"{where}: `{key}` must be {expected}.", remedy=f"For example `{example}`.", key=key)


def _text(value: Value, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, key, "one text", f"{key}: …")
    return value


def _texts(value: Value, key: str, where: str) -> tuple[str, ...]:
    items: Iterable[Value] = [value] if isinstance(value, str) and value else value or []
    texts = tuple(item for item in items if isinstance(item, str) and item)
    if isinstance(value, dict) or len(texts) != len(tuple(items)):
        raise _wrong(where, key, "a list of texts", f"{key}: [a, b]")
    return texts


def _pairs(value: Value, key: str, where: str) -> tuple[tuple[str, str], ...]:
    if value == "":
        return ()
    if not isinstance(value, dict) or not all(isinstance(v, str) and v for v in value.values()):
        raise _wrong(where, key, "a mapping of names to texts", f"{key}: {{text: body}}")
    return tuple((k, v) for k, v in value.items() if isinstance(v, str))


def _one_of(choices: tuple[str, ...]) -> Callable[[Value, str, str], str]:
    def read(value: Value, key: str, where: str) -> str:
        text = _text(value, key, where)
        if text and text not in choices:
            near = nearest(text, choices)
            raise InvalidOptionError(
                f"{where}: `{key}` can't be {text[:80]!r}.",
                remedy=f"Did you mean {near!r}?" if near else f"It is one of {', '.join(choices)}.",
                key=key,
            )
        return text

    return read


def _gate(value: Value, key: str, where: str) -> str:
    return _one_of(GATES)(value, key, where) or "unknown"


def _license(value: Value, key: str, where: str) -> str:
    text = _text(value, key, where)
    spdx = spdx_of(text)
    if spdx == NOASSERTION and text.lower() not in ("", "noassertion", "other", "unknown", "none"):
        raise InvalidOptionError(
            f"{where}: `{key}` is not an SPDX id: {text[:80]!r}.",
            remedy=f"For a licence without an SPDX id, write LicenseRef-NAME; "
            f"if rows or configs have different licences, write {MIXED}.",
            key=key,
        )
    return spdx


def _audited(value: Value, key: str, where: str) -> str:
    return _license(value, key, where) if value else ""


def _source(value: Value, key: str, where: str) -> str:
    return check_location(_text(value, key, where))


def _evidence(value: Value, key: str, where: str) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(value, key, where)
    for fact, how in pairs:
        if fact not in FACTS:
            raise UnknownFieldError(fact, FACTS, where=f"{where}: `{key}`")
        _one_of(EVIDENCE)(how, f"{key}.{fact}", where)
    return pairs


_READERS: Final[Mapping[str, Callable[[Value, str, str], Any]]] = MappingProxyType(
    {
        **dict.fromkeys((field.name for field in fields(Card)), _text),
        **dict.fromkeys(("configs", "include", "exclude", "join", "terms", "languages", "tags", "aliases"), _texts),
        "source": _source,
        "kind": _one_of(KINDS),
        "mapping": _pairs,
        "license": _license,
        "license_audited": _audited,
        "gate": _gate,
        "evidence": _evidence,
    }
)
