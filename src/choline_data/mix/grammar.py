"""The grammar of mixes: parses every form of a mix into one frozen tree. Opens no file except a path that the caller passes.

=================================  ===============================================================================
form                               example
=================================  ===============================================================================
a name                             `"web"`, `"web@3f9c:config/split"`
names and weights                  `"web:0.7,code:0.3"`
a mapping                          `{"web": 0.7, "code": {"weight": 0.3, "where": "len(text) > 100"}}`
a list                             `["web", "code"]`, `[{"dataset": "web", "weight": 2}]`
YAML or JSON text, or a path       `sources:` with any of these forms below it, beside `unit:`
groups                             `"*"`, `"kind:chat"`, `"license:permissive"`, `"language:en"`, `"tag:x"`
a temperature                      `"*^0.7"`: within the group, shares proportional to size^0.7
a mix in a mix                     `{"web": 1, "science": {"weight": 0.5, "mix": {"physics": 2, "biology": 1}}}`
splits                             `"web/test"`, `"web/train+validation"`, `{"web": {"split": ["train", "test"]}}`
=================================  ===============================================================================

The default weight is 1. Only the ratios of weights count. They are exact: 0.1 is a tenth. A source without a split uses its
dataset's `train` split if there is one. `all` is every split.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import yaml

from choline_data.errors import InvalidMixError, InvalidNameError, nearest, one_line
from choline_data.order.recipe import MAX_SOURCES
from choline_data.schema import KINDS
from choline_data.store.snapshots import check_name

MAX_TEXT_BYTES = 64 << 10
MAX_DEPTH = 8
UNITS = ("samples", "tokens", "bytes")
GROUPS = ("kind", "license", "language", "tag")
OPTIONS = ("weight", "where", "max_epochs", "split", "config", "revision", "dataset", "mix")
_TOP = ("unit", "sources")
# At most 40 digits and 3 digits of exponent: "1e999999999" would become an integer of about a gigabyte.
_NUMBER = re.compile(r"(\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?")
_LARGEST = 1 << 1100  # larger than the largest float


@dataclass(frozen=True)
class MixPart:
    """One entry of a mix: a dataset, a group of datasets, or a nested mix."""

    name: str
    weight: Fraction = Fraction(1)
    dataset: str = ""  # the name of a dataset in the catalog; "" for a group or a mix
    group: str = ""  # "*", "kind:chat" …
    temperature: Fraction = Fraction(1)
    mix: Mix | None = None
    where: str = ""
    max_epochs: Fraction | None = None
    split: str = ""
    config: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Mix:
    """Weighted parts. `unit` is what the weights count; with "" the view decides."""

    parts: tuple[MixPart, ...]
    unit: str = ""

    def to_text(self) -> str:
        """Returns the mix as JSON.

        `parse_mix` reads it back as the same mix. Only a common factor of the weights at a level may get lost.
        """
        return json.dumps(
            {"unit": self.unit, "sources": self._sources()} if self.unit else {"sources": self._sources()}
        )

    def _sources(self) -> dict[str, Any]:
        factor = math.lcm(*(part.weight.denominator for part in self.parts))
        return {part.name: _told(part, int(part.weight * factor)) for part in self.parts}


def _told(part: MixPart, weight: int) -> dict[str, Any]:
    body: dict[str, Any] = {"weight": weight}
    if part.mix is not None:
        body["mix"] = part.mix._sources()
    body |= {
        key: getattr(part, key) for key in ("dataset", "where", "split", "config", "revision") if getattr(part, key)
    }
    if part.max_epochs is not None:
        body["max_epochs"] = str(part.max_epochs)
    return body


def parse_mix(mix: object, *, files: bool = False) -> Mix:
    """Parses a mix in any of the forms above. Raises InvalidMixError, which names the wrong entry.

    A string is opened as a file only if `files` is set. Do not set it for a mix that came over the network.
    """
    if isinstance(mix, Mix):
        return mix
    try:
        return _Reader().top(_load(mix, files))
    except RecursionError as error:
        raise InvalidMixError("The mix is nested too deep.", remedy=f"At most {MAX_DEPTH} levels.") from error


def _load(mix: object, files: bool) -> object:
    """Returns the mix as a mapping, a list or a compact string."""
    if isinstance(mix, os.PathLike):
        return yaml_value(_text_of(os.fspath(mix)))
    if not isinstance(mix, str):
        return mix
    if len(mix.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise _too_long()
    text = mix.strip()
    if "\n" in text or text.startswith(("{", "[")):
        return yaml_value(text)
    if text.endswith((".yaml", ".yml", ".json")):
        if not files:
            raise InvalidMixError(f"{text!r} names a file.", remedy="Send the content of the file, not its name.")
        return yaml_value(_text_of(text))
    return text


def _too_long() -> InvalidMixError:
    return InvalidMixError(f"The mix is longer than {MAX_TEXT_BYTES} bytes.", remedy="Use groups, such as 'kind:chat'.")


def _text_of(path: str | bytes) -> str:
    from choline_data.places.downloads import open_location

    try:
        with open_location(os.fsdecode(path)) as file:
            raw = file.read(MAX_TEXT_BYTES + 1)
        if len(raw) > MAX_TEXT_BYTES:
            raise _too_long()
        return raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidMixError(f"The mix file {os.fsdecode(path)} can't be read.", remedy="Check its path.") from error


class _Loader(yaml.SafeLoader):
    """A YAML loader that reads only plain data, and reads 1e-3 as a number. It refuses aliases: a few lines of them can
    expand to a gigabyte.

    `yaml_safe` keeps 0.70 as text, because versions need it; here a weight of 0.70 is a number.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise InvalidMixError("The mix has a YAML alias.", remedy="Repeat the entry in place of the alias.")
        return super().compose_node(parent, index)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise InvalidMixError(
                    f"The mix names {_shown(key.value)} twice.",
                    remedy="Write one entry with the sum of the weights.",
                    source=key.value,
                )
            seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[0-9.]+[eE][+-]?[0-9]+$"), list("0123456789."))


def yaml_value(text: str) -> object:
    """Returns the value of YAML text, read by a safe loader. Raises InvalidMixError if the text is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise InvalidMixError(f"The mix is not YAML{place}.", remedy="A mix file has `name: weight` lines.") from error


def _shown(name: object) -> str:
    return repr(one_line(name, 80))


def weight_of(value: object, name: str) -> Fraction:
    """Returns the exact weight. Raises InvalidMixError if `value` is not a number, not finite, negative, or has too many digits."""
    remedy = "A weight is a number, 0 or more."
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction | Decimal):
        raise InvalidMixError(f"The weight of {_shown(name)} is a {type(value).__name__}.", remedy=remedy, source=name)
    if isinstance(value, int | Fraction):
        if abs(value.numerator) >= _LARGEST or value.denominator >= _LARGEST:
            raise InvalidMixError(f"The weight of {_shown(name)} has too many digits.", remedy=remedy, source=name)
        weight = Fraction(value)
    else:
        if not math.isfinite(value):
            raise InvalidMixError(f"The weight of {_shown(name)} is {value}.", remedy=remedy, source=name)
        if not _NUMBER.fullmatch(str(value).lstrip("-")):
            raise InvalidMixError(f"The weight of {_shown(name)} has too many digits.", remedy=remedy, source=name)
        weight = Fraction(str(value))
    if weight < 0:
        raise InvalidMixError(f"The weight of {_shown(name)} is negative.", remedy=remedy, source=name)
    return weight


def epochs_of(value: object, name: str) -> Fraction | None:
    """Returns `max_epochs` as a fraction above 0, from a number or text such as "3/2". None means no limit."""
    if value is None:
        return None
    try:
        if isinstance(value, str) and re.fullmatch(r"\d{1,18}(/\d{1,18})?|\d{1,18}\.\d{0,18}", value):
            epochs = Fraction(value)
        elif isinstance(value, int | float | Fraction) and not isinstance(value, bool):
            epochs = Fraction(str(value))
        else:
            raise ValueError
        if not (0 < epochs.numerator < 10**18 and epochs.denominator < 10**18):
            raise ValueError
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidMixError(
            f"max_epochs of {_shown(name)} is {one_line(value, 40)}.",
            remedy="Give a number above 0.",
            source=name,
        ) from error
    return epochs


class _Reader:
    """Builds a `Mix` from parsed data. Counts its entries, so that no form of mix exceeds the limits."""

    def __init__(self) -> None:
        self._entries = 0

    def top(self, mix: object) -> Mix:
        unit = ""
        if isinstance(mix, Mapping) and "sources" in mix and set(mix) <= set(_TOP):
            unit, mix = mix.get("unit") or "", mix["sources"]
            if unit not in ("", *UNITS):
                raise InvalidMixError(f"There is no unit {_shown(unit)}.", remedy=f"Units: {', '.join(UNITS)}.")
        return Mix(self._level(mix, depth=1).parts, str(unit))

    def _level(self, mix: object, depth: int) -> Mix:
        if depth > MAX_DEPTH:
            raise InvalidMixError(f"The mix is nested more than {MAX_DEPTH} levels deep.", remedy="Flatten it.")
        if isinstance(mix, Mix):
            parts = list(mix.parts)
        elif isinstance(mix, str):
            parts = [self._from_text(item) for item in mix.split(",") if item.strip()]
        elif isinstance(mix, Mapping):
            parts = [self._entry(name, value, depth) for name, value in mix.items()]
        elif isinstance(mix, Sequence) and not isinstance(mix, bytes | bytearray):
            parts = [self._item(item, depth) for item in mix]
        else:
            raise InvalidMixError(
                f"A mix can't be a {type(mix).__name__}.",
                remedy="Give a name, a mapping of names to weights, or a list.",
            )
        if not parts:
            raise InvalidMixError("The mix is empty.", remedy="Name at least one dataset, or '*' for all.")
        names = set()
        for part in parts:
            if part.name in names:
                raise InvalidMixError(
                    f"The mix names {_shown(part.name)} twice.",
                    remedy="Write one entry with the sum of the weights, or give the two entries different names and a `dataset`.",
                    source=part.name,
                )
            names.add(part.name)
        if not any(part.weight for part in parts):
            raise InvalidMixError("All weights of the mix are 0.", remedy="Give at least one source a weight above 0.")
        return Mix(tuple(parts))

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MAX_SOURCES:
            raise InvalidMixError(
                f"The mix has more than {MAX_SOURCES} sources.",
                remedy="Use groups, such as 'kind:chat' or 'tag:web'.",
            )

    def _from_text(self, item: str) -> MixPart:
        """Parses `name:0.7`. The text after the last colon is the weight if it is a number."""
        head, colon, tail = item.strip().rpartition(":")
        if colon and _NUMBER.fullmatch(tail.strip()):
            return self._named(head.strip(), {"weight": Fraction(tail.strip())})
        if colon and (
            re.fullmatch(r"\s*[-+]?[\d.]+\S*\s*", tail) or tail.strip().lower() in ("nan", "inf", "infinity", "")
        ):
            raise InvalidMixError(
                f"The weight of {_shown(head)} is {_shown(tail.strip())}.",
                remedy="A weight is a number, 0 or more.",
                source=head,
            )
        return self._named(item.strip(), {})

    def _item(self, item: object, depth: int) -> MixPart:
        if isinstance(item, str):
            return self._from_text(item)
        if isinstance(item, Mapping):
            name = item.get("name") or item.get("dataset")
            if isinstance(name, str):
                return self._entry(name, {key: value for key, value in item.items() if key != "name"}, depth)
            if len(item) == 1:
                ((only, value),) = item.items()
                return self._entry(only, value, depth)
        raise InvalidMixError(
            f"{_shown(item)} is not an entry of a mix.",
            remedy="An entry of a list is a name, or a mapping with `dataset`.",
        )

    def _entry(self, name: object, value: object, depth: int) -> MixPart:
        if not isinstance(name, str):
            raise InvalidMixError(
                f"{_shown(name)} is not the name of a dataset.", remedy="Names are strings; quote it in YAML."
            )
        if isinstance(value, Mapping):
            known = set(value) & set(OPTIONS)
            if not value or not known:
                return self._named(name, {"mix": value}, depth)
            for key in value:
                if key not in OPTIONS:
                    near = nearest(str(key), OPTIONS)
                    remedy = f"Did you mean {near!r}?" if near else f"There are: {', '.join(OPTIONS)}."
                    raise InvalidMixError(f"{_shown(name)} has no option {_shown(key)}.", remedy=remedy, source=name)
            return self._named(name, value, depth)
        if isinstance(value, Mix):
            return self._named(name, {"mix": value}, depth)
        return self._named(name, {"weight": value}, depth)

    def _named(self, name: str, options: Mapping[str, Any], depth: int = 1) -> MixPart:
        self._count()
        texts: dict[str, str] = {}
        options = {**options, "split": _splits(options.get("split"), name)}
        for key in ("where", "split", "config", "revision", "dataset"):
            value = options.get(key)
            if value is not None and not isinstance(value, str):
                raise InvalidMixError(
                    f"{key} of {_shown(name)} is a {type(value).__name__}, not text.",
                    remedy="Quote it.",
                    source=name,
                )
            texts[key] = value or ""
        common: dict[str, Any] = {
            "weight": weight_of(options["weight"], name) if "weight" in options else Fraction(1),
            "where": texts["where"],
            "max_epochs": epochs_of(options.get("max_epochs"), name),
        }
        if "mix" in options:
            if not name or len(name) > 128:
                raise InvalidMixError("A mix within a mix needs a name of at most 128 characters.", remedy="Name it.")
            nested = self._level(options["mix"], depth + 1)
            return MixPart(name, mix=nested, split=texts["split"], config=texts["config"], **common)
        reference = texts["dataset"] or name
        group, caret, exponent = reference.partition("^")
        if group == "*" or (group.partition(":")[0] in GROUPS and ":" in group):
            return MixPart(
                name,
                group=_checked_group(group),
                temperature=_temperature(exponent, name) if caret else Fraction(1),
                split=texts["split"],
                config=texts["config"],
                **common,
            )
        dataset, revision, config, split = _reference(reference)
        return MixPart(
            name,
            dataset=dataset,
            split=texts["split"] or split,
            config=texts["config"] or config,
            revision=texts["revision"] or revision,
            **common,
        )


def _splits(value: object, name: str) -> object:
    """Joins a list of splits into text, such as `train+validation`. Returns any other value unchanged."""
    if not isinstance(value, list | tuple):
        return value
    if not value or len(value) > 64 or not all(isinstance(split, str) and split for split in value):
        raise InvalidMixError(
            f"split of {_shown(name)} is {one_line(value, 80)}.", remedy="Give a name, or a list of names.", source=name
        )
    return "+".join(value)


def _reference(text: str) -> tuple[str, str, str, str]:
    """Returns dataset, revision, config and split of `name[@revision][:config][/split]`."""
    match = re.fullmatch(
        r"([^@:/]+)(?:@([0-9a-f]{4,64}))?(?::([^/\x00-\x1f]{1,128}))?(?:/([^/\x00-\x1f]{1,128}))?", text
    )
    if match is None:
        raise InvalidMixError(
            f"{_shown(text)} is not the name of a dataset.",
            remedy="Write name, name@revision (4 or more hex digits), name:config, name/split, or name:weight.",
            source=text,
        )
    try:
        return check_name(match[1]), match[2] or "", match[3] or "", match[4] or ""
    except InvalidNameError as error:
        raise InvalidMixError(
            f"{_shown(text)} is not the name of a dataset.", remedy=error.remedy, source=text
        ) from error


def _checked_group(group: str) -> str:
    what, _, value = group.partition(":")
    if what == "*" and not value:
        return group
    if not value or len(value) > 128:
        raise InvalidMixError(f"{_shown(group)} is not a group.", remedy=f"Groups: *, {':…, '.join(GROUPS)}:….")
    if what == "kind" and value not in KINDS:
        near = nearest(value, KINDS)
        raise InvalidMixError(
            f"There is no kind {_shown(value)}.",
            remedy=f"Did you mean {near!r}?" if near else f"Kinds: {', '.join(KINDS)}.",
        )
    return group


def _temperature(text: str, name: str) -> Fraction:
    if not re.fullmatch(r"\d{1,2}(\.\d{1,6})?", text) or Fraction(text) > 10:
        raise InvalidMixError(
            f"The temperature of {_shown(name)} is {_shown(text)}.",
            remedy="Give a number from 0 to 10, as in *^0.7.",
            source=name,
        )
    return Fraction(text)
