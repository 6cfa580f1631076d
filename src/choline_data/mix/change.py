"""Changes the mix of a stream from a position on, at once or in steps.

The change is a new segment of the recipe: a part with its own weights. The sources keep their revisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from choline_data.errors import InvalidMixError, InvalidOptionError
from choline_data.mix.grammar import Mix, MixPart
from choline_data.mix.resolve import ALL_SPLITS, integer_weights, join_where
from choline_data.order.interleave import MIXING_BLOCK
from choline_data.order.recipe import Recipe, RecipeSource, Segment


def spell_out(mix: Mix, recipe: Recipe, where: str = "") -> Mix:
    """Returns the mix with each name of a recipe's source replaced by the source's full definition. The filter `where`
    applies to all other entries.
    """
    known = {source.name: source for source in recipe.sources}
    return Mix(tuple(_spelled_out(part, known.get(part.name), where) for part in mix.parts), mix.unit)


def _spelled_out(part: MixPart, source: RecipeSource | None, where: str) -> MixPart:
    own = part.where or part.split or part.config or part.revision
    if source is None or own or part.dataset not in (part.name, source.dataset):
        return replace(part, where=join_where(where, part.where))
    return replace(
        part,
        dataset=source.dataset,
        revision=source.revision,
        split=source.split or ALL_SPLITS,
        config=source.config,
        where=source.where,
    )


def _parts(mix: Mix) -> Iterator[MixPart]:
    for part in mix.parts:
        yield part
        if part.mix is not None:
            yield from _parts(part.mix)


def weights_in(recipe: Recipe, mix: Mix, resolved: Recipe) -> tuple[dict[str, int], list[RecipeSource]]:
    """Returns the weights of a mix by the names of the recipe's sources, and the new sources, which the recipe does not
    have yet.

    Two sources are the same if dataset, split, config and filter are equal. Such a source keeps its revision, even if a
    newer one was published, unless the mix names another revision.
    """
    exact = {(*_what(source), source.revision): source for source in recipe.sources}
    loose = {_what(source): source for source in reversed(recipe.sources)}
    named = {part.dataset for part in _parts(mix) if part.revision}
    capped = {part.max_epochs for part in _parts(mix)} - {None}
    names = {source.name for source in recipe.sources}
    weights: dict[str, int] = {}
    joining: list[RecipeSource] = []
    for source in resolved.sources:
        ours = exact.get((*_what(source), source.revision))
        if ours is None and source.dataset not in named:
            ours = loose.get(_what(source))
        if ours is None:
            ours = replace(source, name=_free(source.name, names))
            names.add(ours.name)
            joining.append(ours)
        elif source.max_epochs != ours.max_epochs and source.max_epochs in {str(epochs) for epochs in capped}:
            raise InvalidMixError(
                f"max_epochs of {ours.name} is {ours.max_epochs or 'endless'} in the stream and {source.max_epochs} here.",
                remedy="max_epochs counts from position 0 and can't change later. Leave it out.",
                source=ours.name,
            )
        weights[ours.name] = weights.get(ours.name, 0) + resolved.segments[0].weights.get(source.name, 0)
    return weights, joining


def _what(source: RecipeSource) -> tuple[str, ...]:
    return source.dataset, source.split, source.config, source.where


def _free(name: str, used_names: set[str]) -> str:
    number = 2
    free = name
    while free in used_names:
        free, number = f"{name}.{number}", number + 1
    return free


def change_recipe(
    recipe: Recipe,
    weights: Mapping[str, int],
    joining: list[RecipeSource],
    at: int,
    until: int | None = None,
    steps: int = 1,
) -> Recipe:
    """Returns the recipe with these weights from `at` on. With `until`, the shares change in `steps` equal steps from
    `at` to `until`.

    A change at the position where the last segment starts replaces that segment.
    """
    last = len(recipe.segments) - 1
    again = at == recipe.segments[last].start
    before = recipe.segments[max(last - 1, 0) if again else last].weights
    mixes = [(at, dict(weights))] if until is None else ramp(before, weights, at, until, steps, recipe.source_batch)
    segments = recipe.segments[:last] if again else recipe.segments
    segments = (*segments, *(Segment(start, weights_of_step) for start, weights_of_step in mixes))
    named = {name for segment in segments for name in segment.weights}
    sources = tuple(source for source in (*recipe.sources, *joining) if source.name in named)
    return replace(recipe, sources=sources, segments=segments)


def ramp(
    before: Mapping[str, int], after: Mapping[str, int], start: int, stop: int, steps: int, grain: int = 1
) -> list[tuple[int, dict[str, int]]]:
    """Returns `steps` mixes that lead from the mix `before` to the mix `after` in equal steps, each with its first
    position.

    The first mix begins at `start`. The last one is `after`, at `stop`. Distances from `start` are multiples of
    `grain`. If a step is long enough, its length is a whole number of mixing blocks, because the shares are exact at
    the end of a block. Only the last distance is rounded to `grain` alone.
    """
    if type(stop) is not int or type(steps) is not int or steps < 2 or stop // grain - start // grain < steps - 1:
        raise InvalidOptionError(
            f"A mix can't change in {steps} steps from position {start} to {stop}.",
            remedy="Give 2 steps or more, and an `until` that is at least as many positions after `at`.",
            option="until",
        )
    names = sorted({*before, *after})
    old = {name: Fraction(before.get(name, 0), sum(before.values())) for name in names}
    new = {name: Fraction(after.get(name, 0), sum(after.values())) for name in names}
    block = grain * MIXING_BLOCK
    unit = block if (stop - start) // (steps - 1) >= block else grain
    out = []
    for step in range(1, steps + 1):
        passed = (stop - start) * (step - 1) // (steps - 1)
        passed -= passed % (unit if step < steps else grain)
        shares = {name: old[name] + (new[name] - old[name]) * step / steps for name in names}
        out.append((start + passed, integer_weights(shares)))
    return out
