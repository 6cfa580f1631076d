"""Prints the account of a source: how `add` used each file, or why it did not use it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from choline_data.catalog.account import FileAccount, decode, names_by_role, summary
from choline_data.cli.output import emit, shown
from choline_data.errors import SourceNotFoundError
from choline_data.places.home import Home
from choline_data.store import Catalog
from choline_data.store.manifest import accounts_of
from choline_data.store.object_names import account_name


def show_account(account: Sequence[FileAccount], *, every: bool) -> None:
    """Writes the files by role to standard error: the first names of each role, or with `every` all of them."""
    for line in summary(account) if not every else ():
        sys.stderr.write(f"  files   {shown(line, 400)}\n")
    for file in account if every else ():
        sys.stderr.write(f"  {_line(vars(file))}\n")


def encoding_lines(encodings: Mapping[str, str]) -> list[str]:
    """Returns one line for each encoding other than UTF-8, with the names of its files."""
    by_encoding: dict[str, list[str]] = {}
    for file, encoding in encodings.items():
        by_encoding.setdefault(encoding, []).append(file)
    return [f"encoding {encoding}: {', '.join(files)}" for encoding, files in by_encoding.items()]


def account_as_json(account: Sequence[FileAccount], *, every: bool) -> dict[str, Any]:
    """Returns the number of files of each role; with `every`, also each file."""
    counts = {role.replace(" ", "_"): len(files) for role, files in names_by_role(account).items()}
    return {"files": counts, **({"account": [_as_json(file) for file in account]} if every else {})}


def _as_json(file: FileAccount) -> dict[str, Any]:
    values = {"file": file.name, "role": file.role, "reason": file.reason}
    return values | ({"rows": file.rows, "rejected": file.rejected} if file.rows >= 0 else {})


def show_files(home: str, name: str, *, as_json: bool) -> None:
    """Runs `choline-data show NAME --files`: prints the account that `add` stored with the revision."""
    where = Home(home or None)
    entry = Catalog(where).entry(name)
    digest = accounts_of(where, entry.revision).get(name)
    if digest is None:
        raise SourceNotFoundError(
            f"{name} has no account of its files, because an older version added it.",
            remedy=f"`choline-data add {entry.source} --name {name}` reads the source again and stores an account.",
        )
    for row in decode(where.read(account_name(entry.revision, digest))).to_pylist():
        if as_json:
            emit(row)
        else:
            sys.stdout.write(_line({"name": row["file"], **row}) + "\n")


def _line(file: dict[str, Any]) -> str:
    rows = f"{file['rows']:,} rows" if file["rows"] >= 0 else ""
    rejected = f"{file['rejected']:,} rejected" if file["rejected"] else ""
    details = ", ".join(part for part in (rows, rejected, file["reason"]) if part)
    return shown(f"{file['role']:9} {file['name']}{f'  ({details})' if details else ''}", 400)
