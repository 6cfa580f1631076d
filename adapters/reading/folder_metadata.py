"""Reads the metadata file of a folder of media: `metadata.csv`, `.tsv` or `.jsonl` with a column `file_name`."""

from __future__ import annotations

import csv
import io as stdio
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading import io, members
from choline_data.adapters.reading.names import parts
from choline_data.adapters.reading.records import checked_loads
from choline_data.errors import SourceDamagedError, SourceTooLargeError

MAX_METADATA_BYTES = 256 << 20
NAMES = frozenset({"metadata.csv", "metadata.tsv", "metadata.jsonl"})


def is_metadata(name: str) -> bool:
    """Whether a file is the metadata file of its folder."""
    return parts(name)[-1].lower() in NAMES


def has_file_names(file: SourceFile) -> bool:
    """Returns whether a metadata file has a column with the names of files. In LJSpeech, a list of transcripts has the
    name of a metadata file.
    """
    head = io.head(file.path, 8 << 10).lstrip(b"\xef\xbb\xbf")
    return bool(re.search(rb"file_?name", head[: head.find(b"\n")] if b"\n" in head else head))


def placed(name: str) -> str:
    """Returns a name with the archive mark `!/` replaced by `/`, so that it can be compared with the entries of a metadata file."""
    return "/".join(parts(name))


@dataclass
class Metadata:
    """The metadata of files: the column names, and a row for each file name."""

    columns: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


def metadata_of(files: Sequence[SourceFile], column: str) -> Metadata:
    """Returns the rows of all metadata files, by the name of the file that each row describes."""
    metadata = Metadata()
    wanted = [f for f in files if is_metadata(f.name)]
    for file, data in members.contents(wanted, MAX_METADATA_BYTES):
        if data is None:
            raise SourceTooLargeError(
                f"{file.name} is above {MAX_METADATA_BYTES:,} bytes.",
                remedy="Divide the folder into several.",
            )
        folder = posixpath.dirname(placed(file.name))
        for row in _rows(file, data):
            key = next((k for k in ("file_name", "filename", f"{column}_file_name") if k in row), None)
            if key is None or not isinstance(row[key], str):
                raise SourceDamagedError(
                    f"{file.name} has no column 'file_name'; it has {', '.join(map(str, list(row)[:12]))}.",
                    remedy="Rename the column that has the names of the files to file_name.",
                )
            name = posixpath.normpath(posixpath.join(folder, row.pop(key)))
            metadata.rows[name] = row
            metadata.columns.extend(c for c in row if c not in metadata.columns)
    return metadata


def _rows(file: SourceFile, data: bytes) -> list[dict[str, Any]]:
    try:
        if file.name.lower().endswith(".jsonl"):
            rows = [checked_loads(line) for line in data.splitlines() if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is not an object")
            return rows
        delimiter = "\t" if file.name.lower().endswith(".tsv") else ","
        reader = csv.DictReader(stdio.StringIO(data.decode("utf-8-sig")), delimiter=delimiter, restkey="_more")
        return list(reader)
    except (ValueError, csv.Error) as error:
        raise SourceDamagedError(f"{file.name} can't be read ({error}).", remedy="Correct it.") from error
