"""Damages files of a home while they are read. The readers may get right rows or one error, and nothing else."""

from __future__ import annotations

import base64
import mmap
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from choline_data.errors import DamagedStoreError

from .conftest import Shelf

ROWS, ROW_BYTES = 160, 24 << 10


def fill(folder: Path, *names: str, rows: int = ROWS, row_bytes: int = ROW_BYTES) -> None:
    """A home of datasets of these names, each in two store files."""
    shelf = Shelf(folder)
    for name in names:
        dice = random.Random(name)
        texts = [f"{name} {n} {base64.b64encode(dice.randbytes(row_bytes * 3 // 4)).decode()}" for n in range(rows)]
        parts = {("x", ""): {"text": texts[: rows // 2]}, ("y", ""): {"text": texts[rows // 2 :]}}
        shelf.add(name, parts=parts, block_rows=8)


def store_files(home: Path, name: str) -> list[Path]:
    """The store files of a dataset."""
    from choline_data.places.home import Home
    from choline_data.store import Catalog, open_revision
    from choline_data.store.blocks import data_name

    opened = Home(home)
    revision = open_revision(opened, Catalog(opened).entry(name).revision)
    return [home / data_name(file.sha256) for file in revision.files()]


def _cut(left: Callable[[int, random.Random], int]) -> Callable[[Path, random.Random], None]:
    def cut(path: Path, dice: random.Random) -> None:
        os.truncate(path, left(path.stat().st_size, dice))

    return cut


def _overwrite(path: Path, dice: random.Random) -> None:
    at = dice.randrange(path.stat().st_size)
    with open(path, "r+b", buffering=0) as file:
        old = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([old[0] ^ (1 << dice.randrange(8))]), at)


def _rewrite(path: Path, dice: random.Random) -> None:
    """Other bytes of the same length, in the same file."""
    size = path.stat().st_size
    with open(path, "r+b", buffering=0) as file:
        file.truncate(0)
        file.write(dice.randbytes(size))


def _garbage_in_its_place(path: Path, dice: random.Random) -> None:
    """Replaces the file by another one. A process that has the old file open keeps reading the old one."""
    beside = path.with_suffix(".new")
    beside.write_bytes(dice.randbytes(path.stat().st_size))
    os.replace(beside, path)


@dataclass(frozen=True)
class Damage:
    """A kind of damage to a file, and whether a reader that has mapped the file must notice it."""

    do: Callable[[Path, random.Random], None]
    noticed: bool = True


DAMAGES = {
    "to nothing": Damage(_cut(lambda size, dice: 0)),
    "at a page": Damage(_cut(lambda size, dice: dice.randrange(size // mmap.PAGESIZE) * mmap.PAGESIZE)),
    "anywhere": Damage(_cut(lambda size, dice: dice.randrange(size))),
    "by a byte": Damage(_cut(lambda size, dice: size - 1)),
    "a bit": Damage(_overwrite),
    "rewritten": Damage(_rewrite),
    "removed": Damage(lambda path, dice: path.unlink(), noticed=False),
    "replaced": Damage(_garbage_in_its_place, noticed=False),
}


class Kept:
    """A copy of a file, to be put back whole."""

    def __init__(self, path: Path, beside: Path) -> None:
        self.path, self._copy = path, beside / path.name
        shutil.copy2(path, self._copy)

    def put_back(self) -> None:
        """As a repair does it: the sound file takes the place of the damaged one."""
        copy = self.path.with_suffix(".back")
        shutil.copy2(self._copy, copy)
        os.replace(copy, self.path)


def check_error(error: DamagedStoreError, path: Path, untold: Path | None = None) -> None:
    """That an error names the file and says what to do, and that a server does not say where its home is."""
    assert untold is None or str(untold) not in str(error)
    assert error.reason == "STORE_DAMAGED"
    assert path.stem[:12] in error.message
    assert error.remedy
