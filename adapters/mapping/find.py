"""What a rule says of the columns of a source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Find:
    """What a rule found."""

    kind: str
    form: str
    fields: list[tuple[str, str]]
    score: float
    evidence: str
