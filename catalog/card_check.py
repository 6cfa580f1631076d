"""Compares a card of the catalog with what the hub states about the dataset now.

A fact of the card is right, differs, or cannot be verified because the hub does not state it. A fact that the card leaves
empty is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from choline_data.catalog.cards import Card
from choline_data.catalog.hub_api import CONVERTED, HubDataset
from choline_data.errors import InvalidOptionError, SourceNotFoundError
from choline_data.licenses import NOASSERTION, spdx_of_stated

RIGHT, DIFFERS, UNVERIFIABLE = ("right", "differs", "unverifiable")
_SOURCE = re.compile(r"^hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?")
_NUMBER = re.compile(r"(?<![\w.,])(~?)(\d+(?:,\d{3})*)(?:\.(\d+))?\s*([kKMBT](?![A-Za-z]))?\s*([A-Za-z]*)")
_POWERS: Final = {"": 0, "k": 3, "K": 3, "M": 6, "B": 9, "T": 12}
_OTHER_UNITS = re.compile(r"^(?:[kKMGTP]i?B|bytes?|tok\w*|h|hours?|words?|hrs?|min\w*|lang\w*|x|days?|years?)$", re.I)
_BETWEEN = re.compile(r"^(\d+[KMBT]?)\s*<\s*n\s*<\s*(\d+[KMBT]?)$")  # the notations of ranges in `size_categories`
_BEYOND = re.compile(r"^n\s*([<>])\s*(\d+[KMBT]?)$")


@dataclass(frozen=True)
class CardFact:
    """A fact of a card, what the hub states, and whether they agree."""

    field: str
    state: str
    card: str
    hub: str = ""


@dataclass(frozen=True)
class _OnHub:
    """What the hub states about a dataset at the moment."""

    name: str
    info: Any
    card: Mapping[str, Any]
    dataset: HubDataset

    @property
    def infos(self) -> dict[str, Mapping[str, Any]]:
        """The entries of `dataset_info`, by the name of their config."""
        stated = self.card.get("dataset_info")
        items = [stated] if isinstance(stated, dict) else stated if isinstance(stated, list) else []
        return {str(item.get("config_name", "default")): item for item in items if isinstance(item, dict)}

    @property
    def configs(self) -> list[str]:
        """The names of the configs, or [] if the hub states none."""
        stated = self.card.get("configs")
        named = [str(c.get("config_name", "default")) for c in stated or () if isinstance(c, dict)]
        return named or list(self.infos)

    def rows(self) -> dict[str, dict[str, int]]:
        """Returns the number of rows by config and split, as far as the hub states it."""
        counts: dict[str, dict[str, int]] = {}
        for config, info in self.infos.items():
            for split in info.get("splits") or ():
                if isinstance(split, dict) and isinstance(split.get("num_examples"), int):
                    counts.setdefault(config, {})[str(split.get("name"))] = split["num_examples"]
        return counts


def check_card(card: Card) -> list[CardFact]:
    """Compares each fact of the card with the hub. Raises InvalidOptionError if the source of the card is not a dataset
    of the hub.
    """
    place = _SOURCE.match(card.source)
    if place is None:
        raise InvalidOptionError(
            f"{card.name} is not on the hub: its source is {card.source}.", remedy="Check a card with hf://datasets/… ."
        )
    dataset = HubDataset(place[1])
    try:
        info = dataset.info(card.revision or place[2] or "")
    except SourceNotFoundError as error:
        return [CardFact("source", DIFFERS, card.source, error.message)]
    stated = dict(info.card_data.to_dict()) if info.card_data else {}
    name = str(info.id or place[1])
    on_hub = _OnHub(name, info, stated, HubDataset(name))
    checks = (_source, _files, _gate, _license, _configs, _config, _split, _size, _mapping)
    return [fact for check in checks for fact in check(card, on_hub)]


def _compared(field: str, card: str, hub: str, agree: bool) -> CardFact:
    return CardFact(field, RIGHT if agree else DIFFERS, card, hub)


def _source(card: Card, hub: _OnHub) -> Iterator[CardFact]:
    place = _SOURCE.match(card.source)
    now = f"hf://datasets/{hub.name}" + (" (disabled)" if hub.info.disabled else "")
    yield _compared("source", card.source, now, place is not None and place[1] == hub.name and not hub.info.disabled)


def _files(card: Card, hub: _OnHub) -> Iterator[CardFact]:
    """Checks that the dataset has files to read: data files, or the Parquet conversion of a loading script."""
    names = [sibling.rfilename for sibling in hub.info.siblings or ()]
    script = hub.name.rsplit("/", 1)[-1] + ".py"
    data = [name for name in names if name not in ("README.md", ".gitattributes", script)]
    if script in names:
        whole = card.revision == CONVERTED or bool(hub.dataset.conversion())
        state = "a loading script with a Parquet conversion" if whole else "only a loading script"
        yield _compared("files", "readable", state, whole)
    else:
        yield _compared("files", "readable", f"{len(data):,} files", bool(data))


def _gate(card: Card, hub: _OnHub) -> Iterator[CardFact]:
    if card.gate != "unknown":
        stated = "no" if hub.info.gated is False else str(hub.info.gated or "")
        agree = _compared("gate", card.gate, stated, card.gate == stated)
        yield agree if stated else CardFact("gate", UNVERIFIABLE, card.gate)


def _license(card: Card, hub: _OnHub) -> Iterator[CardFact]:
    stated = hub.card.get("license")
    spdx = spdx_of_stated(stated)
    if spdx and spdx != NOASSERTION:
        yield _compared("license", card.license, spdx, card.license == spdx)
    elif card.license != NOASSERTION:
        yield CardFact("license", UNVERIFIABLE, card.license, str(stated or ""))


def _configs(card: Card, hub: _OnHub) -> Iterator[CardFact]:
    if not card.configs:
        return
    listed = ", ".join(hub.configs[:20])
    if not hub.configs:
        yield CardFact("configs", UNVERIFIABLE, ", ".join(card.configs))
        return
    known = all(any(fnmatchcase(there, config) for there in hub.configs) for config in card.configs)
    complete = all(any(fnmatchcase(there, config) for config in card.configs) for there in hub.configs)
    yield _compared("configs", ", ".join(card.configs), listed, known and complete)


def _config(card: Card, hub: _OnHub) -> Iterator[CardFact]:
    if card.config and hub.configs:
        yield _compared("config", card.config, ", ".join(hub.configs[:20]), card.config in hub.configs)
    elif card.config:
        yield CardFact("config", UNVERIFIABLE, card.config)


def _split(card: Card, hub: _OnHub) -> Iterator[CardFact]:
    if not card.split:
        return
    rows = hub.rows()
    splits = list(rows.get(card.config) or {split: 0 for counts in rows.values() for split in counts})
    fact = _compared("split", card.split, ", ".join(splits), card.split in splits)
    yield fact if splits else CardFact("split", UNVERIFIABLE, card.split)


def _size(card: Card, hub: _OnHub) -> Iterator[CardFact]:
    """Compares numbers of rows. Sizes in bytes, tokens or hours cannot be verified, because the hub does not state them."""
    if not card.size:
        return
    numbers = [match for match in _NUMBER.finditer(card.size) if not _OTHER_UNITS.match(match[5])]
    rows = hub.rows()
    if numbers and rows:
        sums = {config: sum(splits.values()) for config, splits in rows.items()}
        counts = {*sums.values(), sum(sums.values()), *(n for splits in rows.values() for n in splits.values())}
        agree = all(any(_means(number, count) for count in counts) for number in numbers)
        words = "; ".join(
            f"{config} " + ", ".join(f"{split} {count:,}" for split, count in splits.items())
            for config, splits in list(rows.items())[:6]
        )
        yield _compared("size", card.size, words, agree)
        return
    category = _category(hub.card.get("size_categories"))
    if len(numbers) == 1 and category:
        low, high, words = category
        if not low <= _value(numbers[0]) <= high:
            yield CardFact("size", DIFFERS, card.size, words)
            return
    yield CardFact("size", UNVERIFIABLE, card.size, category[2] if category else "")


def _value(number: re.Match[str]) -> float:
    return float(number[2].replace(",", "") + "." + (number[3] or "0")) * float(10 ** _POWERS[number[4] or ""])


def _means(number: re.Match[str], count: int) -> bool:
    """Returns whether the number in a text can be this count. A number with a suffix such as "k" may be rounded to its
    last digit.
    """
    digit = 10 ** (_POWERS[number[4] or ""] - len(number[3] or "")) if number[4] else 0.5
    return abs(_value(number) - count) <= max(digit, 0.05 * count if number[1] else 0)


def _category(stated: Any) -> tuple[float, float, str] | None:
    """Returns the smallest and the largest number of rows that `size_categories` states, such as `10K<n<100K`."""
    words = str(stated[0] if isinstance(stated, list) and stated else stated or "").strip()
    if between := _BETWEEN.match(words):
        return _power(between[1]), _power(between[2]), words
    if beyond := _BEYOND.match(words):
        end = _power(beyond[2])
        return (end, float("inf"), words) if beyond[1] == ">" else (0, end, words)
    return None


def _power(text: str) -> float:
    return float(text.rstrip("KMBT")) * float(10 ** _POWERS[text[-1] if text[-1] in "KMBT" else ""])


def _mapping(card: Card, hub: _OnHub) -> Iterator[CardFact]:
    """Checks that the columns of the mapping exist in the card's config, or in any config if the card names none."""
    if not card.mapping:
        return
    infos: Iterable[Mapping[str, Any]] = [hub.infos[card.config]] if card.config in hub.infos else hub.infos.values()
    columns = {str(f.get("name")) for info in infos for f in info.get("features") or () if isinstance(f, dict)}
    needed = {re.split(r"[.\[]", column)[0].strip() for _, columns_ in card.mapping for column in columns_.split(",")}
    words = ", ".join(column for _, column in card.mapping)
    fact = _compared("mapping", words, ", ".join(sorted(columns)[:30]), needed <= columns)
    yield fact if columns else CardFact("mapping", UNVERIFIABLE, words)
