"""Mixes of weighted sources: parses every form that people write, and resolves a mix to a recipe."""

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
