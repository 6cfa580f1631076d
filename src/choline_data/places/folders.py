"""Folders that survive a power cut. A new folder is lost with all that is in it until the folder above it is synced."""

from __future__ import annotations

import contextlib
import os

_settled: set[str] = set()  # folders whose own names are on the disk, as this process knows


def sync(path: str) -> None:
    """Syncs a folder, so that the names in it survive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make(path: str, mode: int = 0o777) -> None:
    """Makes the folder and those above it, and syncs the name of each new one. `mode` is that of the last."""
    missing: list[str] = []
    at = path
    while not os.path.isdir(at):
        missing.append(at)
        above = os.path.dirname(at)
        if above in (at, ""):
            break
        at = above
    for new in reversed(missing):
        with contextlib.suppress(FileExistsError):  # of another process, which may not have synced it yet
            os.mkdir(new, mode if new == path else 0o777)
        _sync_above(new)


def settle(path: str, root: str) -> None:
    """Syncs the names in a folder below `root`, and the name of each folder from there up to the root.

    Another process may have made one of them and died before it synced it. Each is synced once a process.
    """
    sync(path)
    at = path
    while at not in _settled and len(at) >= len(root):
        _sync_above(at)
        at = os.path.dirname(at)


def _sync_above(path: str) -> None:
    with contextlib.suppress(PermissionError):  # a user may have the right to enter a folder and not to list it
        sync(os.path.dirname(path) or ".")
    _settled.add(path)
