"""Names of files that are never data: hidden files, unfinished downloads, leftovers of systems and programs.

Also refuses the folders of table formats (Delta Lake, Iceberg, Hudi). Their Parquet files contain deleted rows, so they must
not be read one by one.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator

from choline_data.adapters.base import Source
from choline_data.errors import SourceFormatError
from choline_data.places.locations import local_path

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


_ZARR = re.compile(r"(?:^|/)(?:zarr\.json|\.zarray|\.zgroup|\.zmetadata)$")


def refuse_table_formats(where: str, names: Iterable[str]) -> None:
    """Raises SourceFormatError if these names are those of a table format, whose files contain deleted rows, or of Zarr arrays."""
    for name in names:
        if _ZARR.search(name):
            raise SourceFormatError(
                f"{where} is a Zarr store ({name}). Its files are pieces of arrays, so they are not read one by one.",
                remedy="Write its arrays as HDF5 or NPY: zarr.open(PATH), then h5py or numpy.save.",
            )
        for pattern, what, remedy in _TABLES:
            if pattern.search(name.replace("!/", "/")):
                raise SourceFormatError(
                    f"{where} is {what} ({name}). Its data files also hold rows that were deleted or replaced, so they are "
                    "not read one by one.",
                    remedy=remedy,
                )


def refuse_parts_of_tables(source: Source) -> None:
    """Raises SourceFormatError if files of a local source lie in a folder of a table format that is not a part of the source."""
    for folder in {
        os.path.dirname(path) for file in source.files if (path := local_path(file.path.partition("!/")[0]))
    }:
        for above in itertools.islice(_folders_above(os.path.abspath(folder)), _LEVELS):
            if os.path.isdir(source.location) and _is_within(above, os.path.abspath(source.location)):
                continue
            for mark, what in _MARKS.items():
                if os.path.isdir(os.path.join(above, mark)):
                    raise SourceFormatError(
                        f"{source.location} is a part of {what} ({above}). Its files also hold rows that were deleted or "
                        "replaced, so they are not read one by one.",
                        remedy=f"Add the whole table: {above}. Or copy the files into another folder, and add that.",
                    )


_LEVELS = 8
_MARKS = {"_delta_log": "a Delta Lake table", ".hoodie": "an Apache Hudi table"}


def _folders_above(folder: str) -> Iterator[str]:
    """Yields a folder and the folders above it."""
    while True:
        yield folder
        if folder == os.path.dirname(folder):
            return
        folder = os.path.dirname(folder)


def _is_within(folder: str, root: str) -> bool:
    return folder == root or folder.startswith(root.rstrip(os.sep) + os.sep)
