"""Names of the objects that a revision has in the home."""

from __future__ import annotations


def manifest_name(revision: str) -> str:
    """The object that holds a revision's manifest."""
    return f"revisions/{revision}/manifest.arrow"


def rejects_name(revision: str) -> str:
    """The object that holds the rows that were rejected on the way, one JSON object a line."""
    return f"revisions/{revision}/rejects.jsonl"
