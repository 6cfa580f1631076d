"""Recipes that tests change by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from choline_data.order.recipe import Recipe, RecipeSource, Segment


def with_segment(
    recipe: Recipe, start: int, weights: Mapping[str, int], sources: Sequence[RecipeSource] = ()
) -> Recipe:
    """The recipe with one more segment, and with those of the sources that it does not have."""
    names = {source.name for source in recipe.sources}
    added = (source for source in sources if source.name not in names)
    segments = (*recipe.segments, Segment(start, dict(weights)))
    return replace(recipe, sources=(*recipe.sources, *added), segments=segments)
