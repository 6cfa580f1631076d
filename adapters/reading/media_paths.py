"""Paths of media as files name them: without extension, in lower case, for any system and for URLs."""

from __future__ import annotations

from choline_data.adapters.reading import media


def path_of(name: str) -> tuple[str, ...]:
    """Returns the folders and the stem of a medium that a file names, in lower case. Works for paths of any system and for URLs."""
    path = [
        p
        for p in name.strip().replace("\\", "/").replace("!/", "/").split("?")[0].split("/")
        if p not in ("", ".", "..")
    ]
    if path and media.column_for(path[-1]):
        path[-1] = path[-1].rpartition(".")[0]
    return tuple(part.lower() for part in path)


def equal_items(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Returns the number of equal items at the beginning of both paths."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
