"""Explains a mix: for every source its share, samples, tokens and epochs, and where it runs out.

Tokens are estimated as bytes of text / 4.3, measured on up to 4,096 rows of each source.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from choline_data.mix.measure import measure_source
from choline_data.mix.resolve import resolve_mix
from choline_data.order.recipe import Recipe
from choline_data.places.home import Home
from choline_data.store import Catalog
from choline_data.store.windows import Store

# Up to about four epochs, repeated data are nearly as good as new data; after that their value falls fast (Muennighoff 2023).
REPETITION_TRAP = 4


@dataclass(frozen=True)
class SourceExplained:
    """One source of a mix, with its amounts within a budget of tokens."""

    name: str
    dataset: str
    revision: str
    # "train", "test+train", "all" for all splits of a dataset with several, or "" if the dataset has no splits
    split: str
    license: str
    rows: int
    share: float  # share of the samples at the start
    token_share: float  # share of the tokens over the whole budget
    samples: int
    tokens: int
    epochs: float
    runs_out: int | None  # the first position after the source's last sample; None if the source does not run out
    repeated: bool  # whether the source is repeated more than four times


@dataclass(frozen=True)
class Explanation:
    """The result of `explain`: what a mix consists of within a budget of tokens."""

    recipe: Recipe
    sources: tuple[SourceExplained, ...]
    samples: int
    tokens: int
    length: int | None  # number of positions of the stream; None if it never ends
    notes: tuple[str, ...]


def explain(mix: object, home: Home | Store, *, tokens: float | None = None, **options: Any) -> Explanation:
    """Computes what the first `tokens` tokens of the mix consist of. The default is the number of tokens in one pass
    over all sources.

    `options` are passed to `resolve_mix`.
    """
    store = home if isinstance(home, Store) else Store(home)
    recipe = resolve_mix(mix, store, **options)
    plan = recipe.plan()
    measures = [measure_source(store, source) for source in recipe.sources]
    a_sample = [measure.tokens / measure.rows for measure in measures]

    def reached(position: int) -> Fraction:
        return sum((n * each for n, each in zip(plan.samples_before(position), a_sample, strict=True)), Fraction(0))

    one_pass = sum((s.rows * each for s, each in zip(recipe.sources, a_sample, strict=True)), Fraction(0))
    budget = Fraction(tokens) if tokens is not None else one_pass
    end = _position_of(budget, reached, plan.length)
    served, ends = plan.samples_before(end), plan.ends()
    weights = recipe.segments[0].weights
    total = sum(weights.values())
    tokens_served = max(reached(end), Fraction(1))
    splits = {s.name: sorted({split for _, split, _ in store.revision(s.revision).splits()}) for s in recipe.sources}
    licenses = {name: entry.license for name, entry in Catalog(store.home).entries().items()}
    sources = tuple(
        SourceExplained(
            name=source.name,
            dataset=source.dataset,
            revision=source.revision,
            split=source.split or _every_split(splits[source.name]),
            license=licenses.get(source.dataset, "NOASSERTION"),
            rows=source.rows,
            share=weights.get(source.name, 0) / total,
            token_share=float(count * each / tokens_served),
            samples=count,
            tokens=round(count * each),
            epochs=count / source.rows,
            runs_out=ran_out if ran_out is not None and ran_out <= end else None,
            repeated=count > REPETITION_TRAP * source.rows,
        )
        for source, count, each, ran_out in zip(recipe.sources, served, a_sample, ends, strict=True)
    )
    notes = [
        f"{s.name} serves every split: {', '.join(filter(None, splits[s.name]))}. `split` chooses."
        for s in sources
        if s.split == "all"
    ]
    notes += _notes(sources, end, plan.length, budget, tokens_served)
    return Explanation(recipe, sources, end, round(reached(end)), plan.length, tuple(notes))


def _every_split(splits: list[str]) -> str:
    """Returns the split to show for a source that has no split: "all" if the dataset has several splits."""
    return "all" if len(splits) > 1 else splits[0]


def _position_of(budget: Fraction, reached: Any, length: int | None) -> int:
    """Returns the first position at which the budget is reached, or the end of the stream if it never is.

    `reached` computes how much of the budget is used before a position.
    """
    high = 1
    while reached(high if length is None else min(high, length)) < budget:
        if (length is not None and high >= length) or high >= 1 << 50:
            return length if length is not None else high
        high *= 2
    high = high if length is None else min(high, length)
    low = 0
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= budget else (middle + 1, high)
    return low


def _notes(
    sources: tuple[SourceExplained, ...], end: int, length: int | None, budget: Fraction, got: Fraction
) -> list[str]:
    notes = ["Tokens are estimated: bytes of text / 4.3."]
    notes += [
        f"{s.name} is repeated {s.epochs:.1f} times: above {REPETITION_TRAP} epochs repeated data lose their worth. "
        "Lower its weight, or set max_epochs."
        for s in sources
        if s.repeated
    ]
    notes += [f"{s.name} runs out at position {s.runs_out}." for s in sources if s.runs_out is not None]
    if length is not None and end >= length and got < budget:
        notes.append(
            f"The stream ends after {length} samples, about {round(got)} tokens, before the budget is reached."
        )
    return notes
