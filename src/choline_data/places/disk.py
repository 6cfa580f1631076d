"""Turns operating system errors in a home into typed errors: full disk, read-only file system, missing access right.

Every function of `Home` that uses the disk runs inside `writing` or `reading`. So does code that writes a staged file,
which is a temporary file that gets its final name when it is complete.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from choline_data.errors import HomeError, LimitError

_ELSEWHERE = "or name another home with --home or CHOLINE_DATA_HOME"
_REMEDIES = {
    errno.ENOSPC: f"Make room there, {_ELSEWHERE}.",
    errno.EDQUOT: f"Make room within the quota of this user, {_ELSEWHERE}.",
    errno.EROFS: f"Mount it for writing, {_ELSEWHERE}.",
    errno.EACCES: f"Give this user the right to it, {_ELSEWHERE}.",
    errno.EPERM: f"Give this user the right to it, {_ELSEWHERE}.",
    errno.EFBIG: "Raise the limit on the size of files (`ulimit -f`), or take a file system for larger files.",
}
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def home_error(error: OSError, location: str, name: str, verb: str) -> HomeError | LimitError:
    """Returns the error for an OSError about the object `name` of the home at `location`. `verb` is "written" or "read"."""
    if error.errno in _SHORT:
        return LimitError(
            "This process can't open more files, or has no memory left.",
            remedy="Retry later, or raise `ulimit -n`.",
            setting="open_files",
            limit="ulimit",
        )
    return HomeError(
        f"{location} can't be {verb} ({name}): {error.strerror or error}.",
        remedy=_REMEDIES.get(error.errno or 0, f"Check the disk, {_ELSEWHERE}."),
        errno=errno.errorcode.get(error.errno or 0, error.errno or "unknown"),
        path=name,
    )


def refused(error: OSError) -> HomeError:
    """Converts an OSError about a file outside the home to a HomeError."""
    place = str(error.filename or "A file")
    return HomeError(
        f"{place} can't be used: {error.strerror or error}.",
        remedy=_REMEDIES.get(error.errno or 0, "Check the path and the disk.").replace(f", {_ELSEWHERE}", ""),
        errno=errno.errorcode.get(error.errno or 0, error.errno or "unknown"),
        path=place,
    )


@contextmanager
def writing(location: str, name: str) -> Iterator[None]:
    """Turns an OSError in the block into a HomeError that names the home and the object that can't be written.

    It is a LimitError if the process can't open more files or has no memory left.
    """
    try:
        yield
    except OSError as error:
        raise home_error(error, location, _inside(location, name), "written") from error


@contextmanager
def reading(location: str, name: str) -> Iterator[None]:
    """Turns an OSError in the block into a HomeError that names the object that can't be read.

    FileNotFoundError is not converted, because callers report a missing object differently.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise home_error(error, location, _inside(location, name), "read") from error


def _inside(location: str, name: str) -> str:
    """Returns the object's name within the home. If `name` is a full path, removes the home's path: a server must not
    reveal it.
    """
    root = location.removeprefix("file://").rstrip("/") + os.sep
    return name.removeprefix(root) if name.startswith(root) else name
