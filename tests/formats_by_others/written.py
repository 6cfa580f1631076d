"""Files that other libraries write, with the rows that they hold.

A writer is a small function with the decorator `writer`. It writes into a folder, with the library that it names, and the
decorator states the true rows and how `add` ends. To add a writer, put a function into the module of its family.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Write = Callable[[Path], object]
RIGHT, ASKED, REFUSED = ENDS = ("right", "asked", "refused")
FAMILIES = ("tables", "arrays", "records", "texts", "media", "packed", "sciences", "others")

ROWS: list[Row] = [
    {
        "id": n,
        "name": ("Ærøskøbing", "東京", "naïve, “quoted”", 'a "b", c')[n % 4] + f" {n}",
        "price": n / 4,  # some are whole numbers, and stay floats
        "flag": n % 2 == 0,
        "note": None if n % 5 == 4 else f"line one of {n}\nline two",
    }
    for n in range(12)
]
PLAIN: list[Row] = [{"id": row["id"], "name": row["name"], "price": row["price"] + 0.125} for row in ROWS]


@dataclass(frozen=True)
class Writer:
    """A way to write a file.

    `rows` are the rows that it writes. `cells` says that the format has no types: its values are words. `part` says that the
    samples may have more columns than the rows. `ends` is how `add` ends; `says` stands in the message of a refusal.
    """

    name: str
    library: str
    write: Write
    rows: Sequence[Row] = field(repr=False, default=())
    ends: str = RIGHT
    kind: str = "tabular"
    cells: bool = False
    part: bool = False
    says: str = ""
    needs: tuple[str, ...] = ()


WRITERS: dict[str, Writer] = {}


def writer(name: str, library: str, rows: Sequence[Row] | None = None, **options: Any) -> Callable[[Write], Write]:
    """Registers a function that writes a file with `library`. Tests skip it if the library is not installed.

    The rows are ROWS if none are stated. A format that is refused has no rows unless they are stated.
    """
    if rows is None:
        rows = () if options.get("ends") == REFUSED else ROWS

    def register(write: Write) -> Write:
        assert name not in WRITERS, name
        WRITERS[name] = Writer(name, library, write, rows, **options)
        return write

    return register


def all_writers() -> dict[str, Writer]:
    """Returns the writers of all families."""
    for family in FAMILIES:
        importlib.import_module(f"{__name__.rpartition('.')[0]}.{family}")
    return WRITERS
