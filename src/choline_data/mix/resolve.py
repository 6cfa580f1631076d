"""Resolves a mix to a recipe: chooses revisions, expands groups, normalises filters, counts rows and computes integer
weights.

The weights of a recipe count samples. If a mix counts tokens or bytes, the weight of each source is divided by its mean
tokens or bytes per sample. Tokens are estimated as bytes of text / 4.3, measured on a fixed set of rows of the
revision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from fractions import Fraction

from choline_data.errors import InvalidMixError, UnknownDatasetError, UnknownFieldError, nearest
from choline_data.licenses import CLASSES, license_class
from choline_data.mix.grammar import UNITS, Mix, MixPart, parse_mix
from choline_data.mix.measure import Measure, measure_source
from choline_data.order.recipe import MAX_SOURCES, Recipe, RecipeSource, Segment
from choline_data.places.home import Home
from choline_data.places.locations import redacted
from choline_data.process.work import pause
from choline_data.store import Catalog, Entry
from choline_data.store.faults import naming
from choline_data.store.windows import Store

RowsOf = Callable[[Store, RecipeSource, str, Mapping[str, str]], tuple[int, int]]

ALL_SPLITS = "all"
_TRAINS = ("train_", "train-", "train.")
_WEIGHT_LIMIT = 1 << 60
_POWERS = Context(prec=24)


def sample_rows(store: Store, source: RecipeSource, view: str, options: Mapping[str, str]) -> tuple[int, int]:
    """Returns the number of rows of a source, and its rows per block, in the views that serve samples."""
    del options
    if view == "tokens":
        raise InvalidMixError(
            "The tokens view counts packed rows, which this function can't do.",
            remedy="Choose the view samples or text.",
        )
    revision = store.revision(source.revision)
    spans = revision.spans(source.split, source.config)
    if not source.where:
        return sum(end - start for start, end in spans), revision.block_rows
    from choline_data.where.selection import selected_rows, within

    return len(within(selected_rows(store.home, revision, source.where), spans)), revision.block_rows


@dataclass(frozen=True)
class _Leaf:
    """A source of the mix and its share of the whole mix, counted in the mix's unit (samples, tokens or bytes)."""

    source: RecipeSource
    share: Fraction
    measure: Measure


def resolve_mix(
    mix: object,
    home: Home | Store,
    *,
    seed: int = 0,
    shuffle: bool = True,
    view: str = "samples",
    repeat: bool = True,
    where: str = "",
    on_exhausted: str = "renormalize",
    unit: str = "",
    allowed: Container[str] | None = None,
    entries: Mapping[str, Entry] | None = None,
    options: Mapping[str, str] | None = None,
    rows_of: RowsOf = sample_rows,
) -> Recipe:
    """Resolves a mix to a recipe with the current catalog, or with `entries` if the caller passes them.

    `where` filters every source. Without `repeat`, each source is served once unless it has its own `max_epochs`. A source
    without a `split` uses its training split if it has one, so test data are never used for training by accident.
    `allowed` holds the names of the datasets that the mix may use. A mix that names another dataset gets the error for an unknown
    dataset. `rows_of` counts the rows of a view.
    """
    store = home if isinstance(home, Store) else Store(home)
    parsed = parse_mix(mix)
    unit = unit or parsed.unit or ("tokens" if view == "tokens" else "samples")
    if unit not in UNITS:
        raise InvalidMixError(f"There is no unit {unit!r}.", remedy=f"Units: {', '.join(UNITS)}.")
    if parsed.unit and unit != parsed.unit:
        raise InvalidMixError(
            f"The unit of the mix is {parsed.unit}, but the request has the unit {unit}.",
            remedy="Leave one of them out.",
        )
    there = Catalog(store.home).entries() if entries is None else entries
    seen = {n: e for n, e in there.items() if allowed is None or n in allowed}
    resolver = _Resolver(store, seen, unit, view, dict(options or {}), repeat, rows_of)
    resolver.level(parsed, Fraction(1), _Defaults(where=join_where(where, "")))
    leaves = resolver.merged()
    weights = integer_weights({leaf.source.name: leaf.share / resolver.per_sample(leaf.measure) for leaf in leaves})
    return Recipe(
        tuple(leaf.source for leaf in leaves),
        (Segment(0, weights),),
        seed=seed,
        shuffle=shuffle,
        view=view,
        on_exhausted=on_exhausted,
        options=dict(options or {}),
    )


@dataclass(frozen=True)
class _Defaults:
    """The options of a nested mix or a group, which its members use unless they have their own."""

    where: str = ""
    max_epochs: Fraction | None = None
    split: str = ""
    config: str = ""
    path: str = ""


class _Resolver:
    def __init__(
        self,
        store: Store,
        entries: Mapping[str, Entry],
        unit: str,
        view: str,
        options: Mapping[str, str],
        repeat: bool,
        rows_of: RowsOf,
    ) -> None:
        self._store = store
        self._entries = entries
        self._unit = unit
        self._view = view
        self._options = options
        self._repeat = repeat
        self._rows_of = rows_of
        self._leaves: list[tuple[str, _Leaf]] = []  # (names of the enclosing mixes, source)

    def level(self, mix: Mix, share: Fraction, above: _Defaults) -> None:
        """Adds the sources of one level of a nested mix. Together they have the share `share`. `above` has the options
        of the enclosing level.
        """
        total = sum((part.weight for part in mix.parts), Fraction(0))
        for part in mix.parts:
            own = share * part.weight / total
            below = _Defaults(
                where=join_where(above.where, part.where),
                max_epochs=part.max_epochs if part.max_epochs is not None else above.max_epochs,
                split=part.split or above.split,
                config=part.config or above.config,
                path=above.path,
            )
            if part.mix is not None:
                self.level(part.mix, own, replace(below, path=f"{above.path}{part.name}."))
            elif part.group:
                self._group(part, own, below)
            else:
                self._add(part.name, self._entry(part), part.revision, own, below)

    def _entry(self, part: MixPart) -> Entry:
        if part.dataset not in self._entries:
            raise UnknownDatasetError(part.dataset, self._entries, home=redacted(self._store.home.location))
        return self._entries[part.dataset]

    def _group(self, part: MixPart, share: Fraction, below: _Defaults) -> None:
        members = [entry for entry in self._entries.values() if _in_group(entry, part.group)]
        leaves: list[_Leaf] = []
        unknown: UnknownFieldError | None = None
        for entry in members:
            try:
                leaf = self._leaf(entry.name, entry, "", Fraction(0), below)
            except UnknownFieldError as error:
                unknown = error
                continue
            if leaf is not None:
                leaves.append(leaf)
        if not leaves:
            if unknown is not None:
                raise unknown
            what, _, value = part.group.partition(":")
            near = nearest(value, {str(getattr(e, what, "")) for e in self._entries.values()}) if value else None
            raise InvalidMixError(
                f"{part.group!r} matches no dataset that has rows to serve.",
                remedy=f"Did you mean {what}:{near}?" if near else "`choline-data list` shows what there is.",
                source=part.name,
            )
        sizes = [_power(leaf.source.rows * self.per_sample(leaf.measure), part.temperature) for leaf in leaves]
        total = sum(sizes, Fraction(0))
        for leaf, size in zip(leaves, sizes, strict=True):
            self._keep(below.path, replace(leaf, share=share * size / total))

    def _add(self, name: str, entry: Entry, revision: str, share: Fraction, below: _Defaults) -> None:
        leaf = self._leaf(name, entry, revision, share, below)
        if leaf is None:
            raise InvalidMixError(
                f"{name}: there are no rows to serve.",
                remedy="Take it out of the mix, or widen its `where`, split or config.",
                source=name,
            )
        self._keep(below.path, leaf)

    def _keep(self, path: str, leaf: _Leaf) -> None:
        self._leaves.append((path, leaf))
        if len(self._leaves) > 4 * MAX_SOURCES:
            raise InvalidMixError(f"The mix has more than {MAX_SOURCES} sources.", remedy="Name fewer groups.")

    def _leaf(self, name: str, entry: Entry, revision: str, share: Fraction, below: _Defaults) -> _Leaf | None:
        """Returns the source with its number of rows, or None if it has no rows."""
        pause()
        pinned = _full_digest(entry, revision)
        with naming(entry.name):
            opened = self._store.revision(pinned)
        split = _choose_split(name, opened.splits(), below.split, below.config)
        epochs = below.max_epochs if below.max_epochs is not None else None if self._repeat else Fraction(1)
        source = RecipeSource(
            name,
            entry.name,
            pinned,
            rows=1,
            block_rows=1,
            split=split,
            config=below.config,
            where=_normal(below.where),
            max_epochs="" if epochs is None else str(epochs),
        )
        with naming(entry.name):
            rows, block_rows = self._rows_of(self._store, source, self._view, self._options)
        if rows < 1:
            return None
        source = replace(source, rows=rows, block_rows=block_rows)
        if source.cap == 0:
            raise InvalidMixError(
                f"max_epochs {source.max_epochs} of {name}'s {rows} rows is less than one sample.",
                remedy="Raise max_epochs.",
                source=name,
            )
        if self._unit == "samples" or (self._unit == "tokens" and self._view == "tokens"):
            return _Leaf(source, share, Measure(1, 1, 1))
        measure = measure_source(self._store, source)
        if self._view == "tokens":  # bytes of all samples, divided by the number of packed rows that they fill
            samples, _ = sample_rows(self._store, source, "samples", {})
            measure = Measure(measure.rows * rows, measure.text_bytes * samples, measure.bytes * samples)
        return _Leaf(source, share, measure)

    def per_sample(self, measure: Measure) -> Fraction:
        """Returns how many units (samples, tokens or bytes) one sample has."""
        if self._unit == "samples" or (self._unit == "tokens" and self._view == "tokens"):
            return Fraction(1)  # all packed rows have the same number of tokens
        amount = measure.tokens if self._unit == "tokens" else Fraction(measure.bytes)
        return max(amount / measure.rows, Fraction(1, 1000))

    def merged(self) -> list[_Leaf]:
        """Returns each source only once. A source that appears in the mix several times gets the sum of its shares."""
        by_key: dict[tuple[str, ...], _Leaf] = {}
        for path, leaf in self._leaves:
            spec = leaf.source
            key = (spec.dataset, spec.revision, spec.split, spec.config, spec.where)
            there = by_key.get(key)
            if there is None:
                by_key[key] = replace(leaf, source=replace(spec, name=_free(spec.name, path, by_key)))
            elif there.source.max_epochs != spec.max_epochs:
                raise InvalidMixError(
                    f"{spec.dataset} is in the mix twice, with max_epochs {there.source.max_epochs or 'endless'} and "
                    f"{spec.max_epochs or 'endless'}.",
                    remedy="Give both the same.",
                    source=spec.name,
                )
            else:
                by_key[key] = replace(there, share=there.share + leaf.share)
        if len(by_key) > MAX_SOURCES:
            raise InvalidMixError(
                f"The mix has {len(by_key)} sources; the limit is {MAX_SOURCES}.",
                remedy="Name fewer groups.",
            )
        return list(by_key.values())


def _free(name: str, path: str, used_names: Mapping[tuple[str, ...], _Leaf]) -> str:
    names = {leaf.source.name for leaf in used_names.values()}
    if name not in names:
        return name
    if path + name not in names:
        return path + name
    number = 2
    while f"{path}{name}.{number}" in names:
        number += 1
    return f"{path}{name}.{number}"


def _in_group(entry: Entry, group: str) -> bool:
    what, _, value = group.partition(":")
    match what:
        case "*":
            return True
        case "tag":
            return value in entry.tags
        case "license":
            return license_class(entry.license) == value if value in CLASSES else entry.license.lower() == value.lower()
        case _:
            return bool(getattr(entry, what) == value)


def _full_digest(entry: Entry, revision: str) -> str:
    """Returns the whole digest of a revision.

    The mix may name the revision by its first digits. If it names no revision, returns the newest one.
    """
    if not revision:
        return entry.revision
    revisions = {known for known in (entry.revision, *entry.earlier) if known.startswith(revision)}
    if len(revisions) != 1:
        many = "more than one revision" if revisions else "no revision"
        have = ", ".join(known[:12] for known in (entry.revision, *entry.earlier)[:8])
        raise InvalidMixError(
            f"{entry.name} has {many} {revision[:16]}….", remedy=f"There are: {have}.", source=entry.name
        )
    return revisions.pop()


def _choose_split(name: str, parts: list[tuple[str, str, int]], split: str, config: str) -> str:
    """Returns the split that a recipe pins: the requested split or splits, otherwise the training split. "" means all
    rows.

    Raises InvalidMixError, which lists the known splits, if the mix names an unknown split or config.
    """
    configs = {its_config for its_config, _, _ in parts}
    there = {its_split for its_config, its_split, _ in parts if not config or its_config == config}
    wanted = {split} if split in there else set(split.split("+"))
    for what, requested, known in (("config", {config}, configs), ("split", wanted - {ALL_SPLITS}, there)):
        for missing in sorted(filter(None, requested - known)):
            listed = ", ".join(sorted(filter(None, known))[:12]) or "none"
            raise InvalidMixError(f"{name} has no {what} {missing!r}.", remedy=f"There are: {listed}.", source=name)
    if ALL_SPLITS in wanted:
        return ""
    return "+".join(sorted(filter(None, wanted)) or training_splits(there))


def training_splits(splits: Collection[str]) -> list[str]:
    """Returns the splits that a source uses if its mix names no split: `train`, otherwise train_sft, train.clean and the like."""
    return ["train"] if "train" in splits else sorted(s for s in splits if s.startswith(_TRAINS))


def join_where(one: str, other: str) -> str:
    """Joins two filters with "and". An empty filter keeps all rows."""
    texts = [text for text in (one.strip(), other.strip()) if text]
    return texts[0] if len(texts) == 1 else " and ".join(f"({text})" for text in texts)


def _normal(where: str) -> str:
    if not where:
        return ""
    from choline_data.where.language import parse_where

    return parse_where(where).text


def _power(size: Fraction, temperature: Fraction) -> Fraction:
    """Returns size^temperature, computed with 24 digits and rounded to 19, so that the result is the same on every
    machine.
    """
    if temperature == 1:
        return size
    base = _POWERS.divide(Decimal(size.numerator), Decimal(size.denominator))
    exponent = _POWERS.divide(Decimal(temperature.numerator), Decimal(temperature.denominator))
    return Fraction(Decimal(f"{_POWERS.power(base, exponent):.18e}"))


def integer_weights(shares: Mapping[str, Fraction]) -> dict[str, int]:
    """Returns the smallest integers with the same ratios as `shares`. If their sum is 2^60 or more, they are scaled to
    about 2^60 and rounded.

    Raises InvalidMixError if a source's weight is above 0 but rounds to 0, so that the source would never be served.
    """
    factor = math.lcm(*(share.denominator for share in shares.values()))
    whole = {name: int(share * factor) for name, share in shares.items()}
    divisor = math.gcd(*whole.values()) or 1
    whole = {name: weight // divisor for name, weight in whole.items()}
    total = sum(whole.values())
    if total < _WEIGHT_LIMIT:
        return whole
    for name, weight in whole.items():
        whole[name] = (2 * weight * _WEIGHT_LIMIT + total) // (2 * total)
        if weight and not whole[name]:
            raise InvalidMixError(
                f"The weight of {name!r} is less than 2^-60 of the mix.",
                remedy="Raise it, or take the source out.",
                source=name,
            )
    return whole
