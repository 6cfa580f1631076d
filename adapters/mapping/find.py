"""The mapping that a rule suggests after it has recognised columns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Find:
    """A mapping that a rule suggests for a source's columns, with its score (0..1) and its evidence."""

    kind: str
    form: str
    fields: list[tuple[str, str]]
    score: float
    evidence: str
