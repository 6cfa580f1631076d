"""Mixes: weighted sources, in any of the forms people write them, and the recipe that one comes to."""

from choline_data.mix.grammar import Mix, Part, parse_mix
from choline_data.mix.resolve import resolve_mix

__all__ = ["Mix", "Part", "parse_mix", "resolve_mix"]
