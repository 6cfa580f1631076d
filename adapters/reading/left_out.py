"""Names of files that are never data: hidden files, unfinished downloads, leftovers of systems and programs.

Also refuses the folders of table formats (Delta Lake, Iceberg, Hudi). Their Parquet files contain deleted rows, so they must
not be read one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from choline_data.errors import SourceFormatError

_KEPT = frozenset({".gitattributes", ".dvc/config", ".dvc/config.local"})

_NAMES = {
    "__pycache__": "a cache of Python",
    "__macosx": "written by macOS beside the data",
    "thumbs.db": "written by Windows beside the data",
    "desktop.ini": "written by Windows beside the data",
    "$recycle.bin": "written by Windows beside the data",
    "system volume information": "written by Windows beside the data",
    "@eadir": "written by a storage server beside the data",
    "lost+found": "written by the file system",
    "_success": "a mark that a job has ended",
    "_temporary": "output of a job that has not ended",
    "_metadata": "a summary of the Parquet files beside it",
    "_common_metadata": "a summary of the Parquet files beside it",
    "_spark_metadata": "a log of the job that wrote the data",
    "_delta_log": "the log of a Delta Lake table",
    "_change_data": "the changes of a Delta Lake table",
    "_symlink_format_manifest": "a list of the files beside it",
}
_PATTERNS = (
    (re.compile(r"^_(?:committed|started)_\d+", re.I), "a mark of a job"),
    (
        re.compile(r"\.(?:part|partial|crdownload|download|incomplete|aria2|opdownload|filepart|!ut|!qb)$", re.I),
        "an unfinished download",
    ),
    (re.compile(r"\.(?:tmp|temp|swp|swo|lock)$", re.I), "a temporary file"),
    (re.compile(r"^~\$"), "a lock of an editor"),
    (re.compile(r"\.crc$", re.I), "a checksum of the file beside it"),
)


def why_left_out(name: str) -> str:
    """Returns the reason why a file or a folder with this name is never data. "" if it may be data."""
    if any(name == exempt or name.endswith("/" + exempt) for exempt in _KEPT):
        return ""
    for part in name.replace("!/", "/").split("/"):
        if reason := _reason_of(part):
            return reason
    return ""


def _reason_of(part: str) -> str:
    if part.startswith(".") and part not in (".", ".."):
        return "a checksum of the file beside it" if part.endswith(".crc") else "hidden"
    known = _NAMES.get(part.lower())
    return known or next((reason for pattern, reason in _PATTERNS if pattern.search(part)), "")


_TABLES = (
    (
        re.compile(r"(?:^|/)_delta_log(?:/|$)"),
        "a Delta Lake table",
        "Write its current rows as Parquet: deltalake.DeltaTable(PATH).to_pyarrow_table(), then add that file.",
    ),
    (
        re.compile(r"(?:^|/)metadata/[^/]*\.metadata\.json(?:\.gz)?$"),
        "an Apache Iceberg table",
        "Write its current rows as Parquet: pyiceberg's table.scan().to_arrow(), then add that file.",
    ),
    (
        re.compile(r"(?:^|/)\.hoodie(?:/|$)"),
        "an Apache Hudi table",
        "Write its current rows as Parquet with Spark or hudi-rs, then add that file.",
    ),
)


def refuse_table_formats(where: str, names: Iterable[str]) -> None:
    """Raises SourceFormatError if these names are those of a table format, whose files contain deleted rows."""
    for name in names:
        for pattern, what, remedy in _TABLES:
            if pattern.search(name.replace("!/", "/")):
                raise SourceFormatError(
                    f"{where} is {what} ({name}). Its data files also hold rows that were deleted or replaced, so they are "
                    "not read one by one.",
                    remedy=remedy,
                )
