"""The formats that trainers expect of a packed row of tokens: the names of the fields, their dtypes, and the shift between
inputs and labels.
"""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa

from choline_data.client.making.samples import Batch, collate
from choline_data.client.readers.reader import Chunk
from choline_data.errors import InvalidOptionError
from choline_data.tokens.trainer_formats import (
    Arrays,
    TokenFormat,
    end_to_end,
    row_seq_len,
    to_format,
    to_rows,
    token_format,
)


class OutputFormat(Protocol):
    """Converts a chunk to samples or a batch in the format of one trainer."""

    def samples(self, chunk: Chunk, datasets: tuple[str, ...]) -> list[Any]:
        """Returns the chunk's rows one by one."""

    def batch(self, chunk: Chunk, datasets: tuple[str, ...]) -> Any:
        """Returns the chunk's rows as one batch."""

    def collate(self, rows: list[Any]) -> Any:
        """Returns rows, which a transform may have changed, as one batch."""


class Tensors:
    """Packed rows without conversion: `tokens` (int64, seq_len + 1 of them) and the other columns."""

    def samples(self, chunk: Chunk, datasets: tuple[str, ...]) -> list[Any]:
        """Returns the chunk's rows as separate samples. They are views of the chunk's tensors."""
        batch = self.batch(chunk, datasets)
        names = list(batch)
        return [dict(zip(names, row, strict=True)) for row in zip(*batch.values(), strict=True)]

    def batch(self, chunk: Chunk, datasets: tuple[str, ...]) -> Any:
        """Returns the chunk's rows as one batch."""
        import torch

        out = Batch.of(chunk, datasets)
        out["tokens"] = out["tokens"].to(torch.int64)  # torch supports few operations on unsigned integers
        return out

    def collate(self, rows: list[Any]) -> Any:
        """Returns rows, which a transform may have changed, as one batch."""
        return collate(rows) if isinstance(rows[0], (dict, tuple)) else rows


class Tokens:
    """Packed rows in the format `name`."""

    def __init__(self, name: str | TokenFormat) -> None:
        self.name = name
        # a batch, and its arrays; several chunks are slices of this batch
        self._held: tuple[pa.RecordBatch, Arrays] | None = None

    def samples(self, chunk: Chunk, datasets: tuple[str, ...]) -> list[Any]:
        """Returns the chunk's rows one by one."""
        return to_rows(self.name, chunk.batch, chunk.positions, datasets)

    def batch(self, chunk: Chunk, datasets: tuple[str, ...]) -> Any:
        """Returns the chunk's rows as one batch."""
        if chunk.part_of is None:
            return to_format(self.name, chunk.batch, chunk.positions, datasets)
        whole, first = chunk.part_of
        cached = self._held
        if cached is None or cached[0] is not whole:
            cached = self._held = (whole, Arrays.of(whole))
        arrays = cached[1].part(first, chunk.batch.num_rows)
        return to_format(self.name, chunk.batch, chunk.positions, datasets, arrays=arrays)

    def collate(self, rows: list[Any]) -> Any:
        """Collates rows, which a transform may have changed. A flat format concatenates them."""
        if not isinstance(rows[0], (dict, tuple)):
            return rows
        return end_to_end(rows) if token_format(self.name).flat else collate(rows)


def format_of(name: str | TokenFormat | None, view: str) -> OutputFormat | None:
    """Returns the format `name` for a view. None if samples are not converted."""
    if name is None:
        return Tensors() if view == "tokens" else None
    token_format(name)
    if view != "tokens":
        raise InvalidOptionError(
            f"format {name!r} is for packed tokens, not for the view {view!r}.",
            remedy='Set view="tokens", or leave format unset.',
            option="format",
        )
    return Tokens(name)


def token_settings(
    name: str | TokenFormat | None, tokenizer: object, seq_len: int | None, packing: str, boundary: str
) -> dict[str, Any]:
    """Returns the settings of the tokens view for rows with `seq_len` tokens in the format `name`."""
    return {
        "tokenizer": tokenizer or "bytes",
        "seq_len": row_seq_len(name, seq_len or 1024),
        "packing": packing,
        "boundary": boundary,
    }
