"""Mixes of weighted sources: parses every form in which a mix can be written, and resolves a mix to a recipe."""

from choline_data.mix.explain import Explanation, SourceExplained, explain
from choline_data.mix.foreign import ImportedMix, import_mix
from choline_data.mix.grammar import Mix, MixPart, parse_mix
from choline_data.mix.resolve import resolve_mix

__all__ = [
    "Explanation",
    "ImportedMix",
    "Mix",
    "MixPart",
    "SourceExplained",
    "explain",
    "import_mix",
    "parse_mix",
    "resolve_mix",
]
