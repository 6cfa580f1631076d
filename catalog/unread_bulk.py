"""Finds the files of a source that are of named formats which no adapter reads, if they outnumber what is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from choline_data.adapters.base import JOINED, LEFT_OUT, USED
from choline_data.adapters.reading.file_roles import UNREAD
from choline_data.catalog.account import FileAccount

_NO_FORMAT = ("empty", "text ", "binary data", "not ", "a file that cannot be opened")
_MOST_FORMATS = 3


def unread_bulk(account: Sequence[FileAccount]) -> list[FileAccount]:
    """The files of named formats that nothing reads. Empty if at least as many files are read."""
    unread = [f for f in account if f.role == LEFT_OUT and _format(f)]
    read = sum(f.role in (USED, JOINED) for f in account)
    return unread if len(unread) > read else []


def formats_of(files: Iterable[FileAccount]) -> str:
    """The formats of these files with the numbers of files, the most frequent first."""
    counts = Counter(_format(f) for f in files).most_common(_MOST_FORMATS)
    return ", ".join(f"{what} ({count:,})" for what, count in counts)


def _format(file: FileAccount) -> str:
    """The format that the reason names, or "" if it names none."""
    prefix = f"{UNREAD}: "
    what = file.reason.removeprefix(prefix) if file.reason.startswith(prefix) else ""
    return "" if what.startswith(_NO_FORMAT) else what
