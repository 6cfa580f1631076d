"""The order of the files of a source, by their names."""

from __future__ import annotations


def in_order(name: str) -> tuple[object, ...]:
    """Returns a sort key by code point: the same on every machine."""
    return tuple(name.split("/"))
