"""Mixes: weighted sources, in any of the forms people write them, and the recipe that one comes to."""

from choline_data.mix.explain import Explanation, SourceExplained, explain
from choline_data.mix.foreign import Imported, import_mix
from choline_data.mix.grammar import Mix, MixPart, parse_mix
from choline_data.mix.resolve import resolve_mix

__all__ = [
    "Explanation",
    "Imported",
    "Mix",
    "MixPart",
    "SourceExplained",
    "explain",
    "import_mix",
    "parse_mix",
    "resolve_mix",
]
