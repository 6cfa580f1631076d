"""What the operating system refuses in a home, as one typed error: a full disk, a file system for reading only, a right.

Every function of `Home` that touches the disk runs inside `writing` or `reading`. So does each writer of a staged file.
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
    """Our error for what the system says of the object `name` of the home at `location`."""
    if error.errno in _SHORT:
        return LimitError(
            "This process has no open file or memory left.",
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
    """Our error for what the system refuses outside a home."""
    place = str(error.filename or "A file")
    return HomeError(
        f"{place} can't be used: {error.strerror or error}.",
        remedy=_REMEDIES.get(error.errno or 0, "Check the path and the disk.").replace(f", {_ELSEWHERE}", ""),
        errno=errno.errorcode.get(error.errno or 0, error.errno or "unknown"),
        path=place,
    )


@contextmanager
def writing(location: str, name: str) -> Iterator[None]:
    """Where the block fails with an OSError: HomeError, which names the home and the object that can't be written."""
    try:
        yield
    except OSError as error:
        raise home_error(error, location, _inside(location, name), "written") from error


@contextmanager
def reading(location: str, name: str) -> Iterator[None]:
    """The same for reading. FileNotFoundError passes: what is not there is another error."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise home_error(error, location, _inside(location, name), "read") from error


def _inside(location: str, name: str) -> str:
    """The name of the object within the home, where `name` is a whole path: a server tells no peer where its home is."""
    root = location.removeprefix("file://").rstrip("/") + os.sep
    return name.removeprefix(root) if name.startswith(root) else name
