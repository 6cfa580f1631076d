"""Finds files of known formats and binary files that no adapter reads, if they are more than the files that are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from choline_data.adapters.base import JOINED, LEFT_OUT, USED
from choline_data.adapters.reading.file_roles import UNREAD
from choline_data.catalog.account import FileAccount

_NO_FORMAT = ("empty", "text ", "not ", "a file that cannot be opened")
_BINARY = "binary data of an unknown format"
_MOST_FORMATS = 3


def unread_bulk(account: Sequence[FileAccount]) -> list[FileAccount]:
    """Returns the files of known formats and the binary files that no adapter reads. Empty if at least as many files are read."""
    unread = [f for f in account if f.role == LEFT_OUT and _format(f)]
    read = sum(f.role in (USED, JOINED) for f in account)
    return unread if len(unread) > read else []


def formats_of(files: Iterable[FileAccount]) -> str:
    """Returns the formats of these files with their numbers of files, the most frequent first."""
    counts = Counter(_format(f) for f in files).most_common(_MOST_FORMATS)
    return ", ".join(f"{what} ({count:,})" for what, count in counts)


def _format(file: FileAccount) -> str:
    """Returns the format that is named in the reason why a file was not read; "" if it names none."""
    prefix = f"{UNREAD}: "
    what = file.reason.removeprefix(prefix) if file.reason.startswith(prefix) else ""
    if what.startswith(_BINARY):
        return _BINARY
    return "" if what.startswith(_NO_FORMAT) else what
