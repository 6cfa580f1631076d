"""The formats that trainers want: which fields, dtypes and shifts a packed row of tokens comes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from choline_data.client.reading import Chunk
from choline_data.client.samples import Batch
from choline_data.errors import InvalidOptionError


class Format(Protocol):
    """Turns a chunk into samples or a batch of one trainer's form."""

    def samples(self, chunk: Chunk, datasets: tuple[str, ...]) -> list[dict[str, Any]]:
        """The chunk's rows one by one."""

    def batch(self, chunk: Chunk, datasets: tuple[str, ...]) -> Any:
        """The chunk's rows as one batch."""


class Tensors:
    """Packed rows as they are: `tokens` of seq_len + 1, and the columns beside it."""

    def samples(self, chunk: Chunk, datasets: tuple[str, ...]) -> list[dict[str, Any]]:
        """The chunk's rows one by one: views of the chunk's tensors."""
        batch = self.batch(chunk, datasets)
        names = list(batch)
        return [dict(zip(names, row, strict=True)) for row in zip(*batch.values(), strict=True)]

    def batch(self, chunk: Chunk, datasets: tuple[str, ...]) -> Any:
        """The chunk's rows as one batch."""
        return Batch.of(chunk.batch, chunk.positions, datasets)


def format_of(name: str | None, view: str, settings: Mapping[str, Any]) -> Format | None:
    """The format of this name for a view; None for samples as they are."""
    if name is None:
        return Tensors() if view == "tokens" else None
    raise InvalidOptionError(
        f"format {name!r}: no such format for view {view!r}.", remedy="Leave it unset.", option="format"
    )
