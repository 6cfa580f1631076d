"""A row of the source, as an independent reader reads it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from choline_data.adapters.base import Shard
from choline_data.catalog.self_check.source_files import SourceFiles

ROWS = 12  # the number of rows that are read at one place of a shard


@dataclass(frozen=True)
class SourceRow:
    """A row of the source. `place` counts the rows of the shard, `number` is the row's number in `origin.row`.

    Both are -1 for the last row, if its number is not known.
    `named` says that the keys of `values` are the adapter's columns. Otherwise only the values can be compared. `whole` says
    that `values` hold all texts of the row, so that the sample must not have others.
    """

    place: int
    number: int
    values: dict[str, Any]
    named: bool = True
    whole: bool = True


@dataclass(frozen=True)
class Pixels:
    """The grey pixels of a picture."""

    width: int
    height: int
    values: bytes

    def are_those_of(self, encoded: bytes) -> bool:
        """Whether the encoded picture has these pixels. True if there is no library that decodes it."""
        try:
            from PIL import Image
        except ImportError:
            return True
        with Image.open(io.BytesIO(encoded)) as picture:
            return bool(picture.size == (self.width, self.height) and picture.convert("L").tobytes() == self.values)


Reader = Callable[[SourceFiles, Any, Shard], Iterator[SourceRow]]


def ends(count: int, half: int = ROWS // 2) -> list[int]:
    """Returns the places of the first and the last rows of `count` rows: up to `half` at each end."""
    return sorted({*range(min(half, count)), *range(max(count - half, 0), count)})


def encoding_of(adapter: Any, shard: Shard) -> str:
    """Returns the encoding that was decided for the shard, which the plan showed; UTF-8 if none was."""
    stated = str(shard.encoding or adapter.encoding or "utf-8").lower()
    return "utf-8-sig" if stated in ("utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii") else stated
