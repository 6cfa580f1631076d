"""Names of files in a source: which files belong to the source, and their order."""

from __future__ import annotations

_KEPT = frozenset({".gitattributes", ".dvc/config", ".dvc/config.local"})


_LEFT_OUT = frozenset({"__pycache__", "__MACOSX", "Thumbs.db", "desktop.ini", "_SUCCESS"})


def wanted(name: str) -> bool:
    """Whether a file belongs to the source. Hidden files and caches do not, except `.git*` and `.dvc` files that layouts need."""
    if name in _KEPT or any(name.endswith("/" + kept) for kept in _KEPT):
        return True
    return not any(part.startswith(".") or part in _LEFT_OUT for part in name.split("/"))


def in_order(name: str) -> tuple[object, ...]:
    """A sort key by code point: the same on every machine."""
    return tuple(name.split("/"))
