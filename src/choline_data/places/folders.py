"""Creates folders that survive a power cut.

A power cut can lose a new folder and its content until the parent of the folder is synced.
"""

from __future__ import annotations

import contextlib
import os

_settled: set[str] = set()  # folders whose parent this process has synced


def sync(path: str) -> None:
    """Syncs a folder, so that the names in it survive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make(path: str, mode: int = 0o777) -> None:
    """Creates the folder and its missing parents, and syncs the name of each. `mode` applies to `path` only."""
    missing: list[str] = []
    at = path
    while not os.path.isdir(at):
        missing.append(at)
        above = os.path.dirname(at)
        if above in (at, ""):
            break
        at = above
    for new in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process created the folder, and may not have synced it yet
            os.mkdir(new, mode if new == path else 0o777)
        _sync_above(new)


def settle(path: str, root: str) -> None:
    """Syncs a folder below `root`, and the name of each folder from there up to the root.

    Another process may have created one of the folders and died before it synced the name. Each process therefore syncs
    the name of each folder once.
    """
    sync(path)
    at = path
    while at not in _settled and len(at) >= len(root):
        _sync_above(at)
        at = os.path.dirname(at)


def _sync_above(path: str) -> None:
    with contextlib.suppress(PermissionError):  # a user may have the right to enter a folder but not to read it
        sync(os.path.dirname(path) or ".")
    _settled.add(path)
