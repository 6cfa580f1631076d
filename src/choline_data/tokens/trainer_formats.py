"""Converts packed rows to the batches of trainers. Fields, dtypes and shifts follow the definition of each trainer.

=========== ============================================================================================ ===========
format      fields                                                                                       labels
=========== ============================================================================================ ===========
nanogpt     `x`, `y`: int64 [B, T]; targets cross documents, padding is -1                               shifted
torchtitan  `({"input", "positions"}, labels)`: int64 [B*T]; the last token of a document is a label and shifted
            never an input, so no target crosses documents; padding comes last, its labels are -100
hf          `input_ids`, `attention_mask`, `labels`: int64 [B, T]; -100 on padding                       not shifted
hf_flat     `input_ids`, `labels`, `position_ids`: int64 [1, N] without padding, -100 where a document   not shifted
            begins; `cu_seq_lens_q/k`: int32 [documents + 1]; `max_length_q/k`: int
megatron    `tokens`, `labels`, `position_ids`: int64 [B, T]; `loss_mask`: float32 [B, T]                shifted
=========== ============================================================================================ ===========

T is seq_len. Shifted formats split rows of T + 1 tokens into inputs and targets. The others return rows of T tokens, and the
model shifts them (`row_seq_len`). With packing `concat`, every token except the very first is a target once;
torchtitan and hf_flat leave out targets that cross documents.

Chats: for tokens that the assistant does not speak, `megatron` has 0 in `loss_mask` and `torchtitan` has -100 in its labels.
The others do not change their labels and add `assistant_mask`, a bool tensor in the shape of the labels. Every dict except
torchtitan's also has `position` (int64 [B]) and `dataset` (a list of B names); they are not inputs of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.errors import InvalidOptionError, one_line

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
IGNORED = -100


class Arrays(NamedTuple):
    """The columns that every format needs, as arrays. If several batches are slices of one batch, they are extracted
    only once.
    """

    tokens: npt.NDArray[Any]  # [B, R]: the tokens, padded with 0
    length: npt.NDArray[np.int32]  # [B]: the number of tokens before the padding
    codes: npt.NDArray[np.int16]  # [B]: the index of each row's dataset
    assistant: Bools | None  # [B, R]: True for tokens of the assistant; None if no source has chats
    full: bool  # whether no row has padding

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Arrays:
        """Extracts the arrays from a batch of the tokens view."""
        length, codes = batch.column("length").to_numpy(), batch.column("dataset").to_numpy()
        tokens = _places(batch.column("tokens"))
        assistant = _places(batch.column("mask")) != 0 if "mask" in batch.schema.names else None
        return cls(tokens, length, codes, assistant, _full(length, tokens.shape[1]))

    def part(self, first: int, count: int) -> Arrays:
        """Returns the arrays of `count` rows from row `first` on."""
        rows = slice(first, first + count)
        length = self.length[rows]
        assistant = None if self.assistant is None else self.assistant[rows]
        full = self.full or _full(length, self.tokens.shape[1])
        return Arrays(self.tokens[rows], length, self.codes[rows], assistant, full)


class Packed:
    """A batch of the tokens view as arrays with R token places per row. Derived arrays are computed at their first use."""

    def __init__(self, batch: pa.RecordBatch, arrays: Arrays) -> None:
        self._batch = batch
        self.tokens, self.length, _, self.assistant, self.full = arrays

    @cached_property
    def filled(self) -> Bools:
        """A mask: True at each place that holds a token, False in the padding."""
        return np.asarray(np.arange(self.tokens.shape[1]) < self.length[:, None])

    @cached_property
    def begins(self) -> Bools:
        """A mask: True at the first token of each document or continued document, and at the first place of the
        padding.
        """
        rows, room = self.tokens.shape[0], self.tokens.shape[-1]
        out: Bools = np.zeros((rows, room), bool)
        pieces = self._batch.column("pieces")
        counts: npt.NDArray[Any] = np.diff(np.asarray(pieces.offsets))
        lengths = np.asarray(pieces.flatten().field("tokens")).astype(np.int64)
        length = self.length.astype(np.int64)
        row_begins = np.repeat(np.cumsum(length) - length, counts)
        out[np.repeat(np.arange(rows), counts), np.cumsum(lengths) - lengths - row_begins] = True
        short = np.flatnonzero(self.length < room)
        out[short, self.length[short]] = True
        return out

    @cached_property
    def positions(self) -> Ints:
        """The positions 0, 1, 2 … of the tokens within each document, counted from its first token in the row."""
        place = np.broadcast_to(np.arange(self.tokens.shape[1]), self.tokens.shape)
        return np.asarray(place - np.maximum.accumulate(np.where(self.begins, place, 0), axis=1))

    def inputs(self) -> Ints:
        """Returns all tokens except the last of each row."""
        return self.tokens[:, :-1].astype(np.int64, order="C")

    def targets(self, padding: int) -> Ints:
        """Returns all tokens except the first of each row, with `padding` in the padding."""
        out = self.tokens[:, 1:].astype(np.int64, order="C")
        if not self.full:
            out[~self.filled[:, 1:]] = padding
        return out


def _full(length: npt.NDArray[np.int32], room: int) -> bool:
    return bool(len(length)) and min(length.tolist()) == room


def _places(column: pa.Array) -> npt.NDArray[Any]:
    """Converts a fixed-size list column to an array [B, R] without a copy.

    `flatten` would cost as much as all other work for a batch.
    """
    values = column.values.to_numpy().reshape(-1, column.type.list_size)
    return np.asarray(values[column.offset : column.offset + len(column)])


def _tensor(values: npt.NDArray[Any]) -> Any:
    import torch

    return torch.from_numpy(values if values.flags.c_contiguous else np.ascontiguousarray(values))


def _with_mask(fields: dict[str, Any], mask: Bools | None) -> dict[str, Any]:
    return fields if mask is None else {**fields, "assistant_mask": _tensor(mask)}


def _nanogpt(packed: Packed) -> Any:
    fields = {"x": _tensor(packed.inputs()), "y": _tensor(packed.targets(-1))}
    return _with_mask(fields, None if packed.assistant is None else packed.assistant[:, 1:])


def _torchtitan(packed: Packed) -> Any:
    # The next token after the last token of a document belongs to another document, so the last token is not an input.
    is_input = packed.filled[:, 1:] & ~packed.begins[:, 1:]
    target = packed.tokens[:, 1:][is_input].astype(np.int64)
    if packed.assistant is not None:
        target[~packed.assistant[:, 1:][is_input]] = IGNORED
    count, places = len(target), is_input.size
    tokens, labels = np.zeros(places, np.int64), np.full(places, IGNORED, np.int64)
    positions = np.empty(places, np.int64)
    tokens[:count], labels[:count] = packed.tokens[:, :-1][is_input], target
    positions[:count], positions[count:] = packed.positions[:, :-1][is_input], np.arange(places - count)
    return {"input": _tensor(tokens), "positions": _tensor(positions)}, _tensor(labels)


def _hf(packed: Packed) -> Any:
    tokens = packed.tokens.astype(np.int64)
    fields = {
        "input_ids": _tensor(tokens),
        "attention_mask": _tensor(packed.filled.astype(np.int64)),
        "labels": _tensor(np.where(packed.filled, tokens, IGNORED)),
    }
    return _with_mask(fields, packed.assistant)


def _hf_flat(packed: Packed) -> Any:
    tokens = packed.tokens[packed.filled].astype(np.int64)[None]
    positions = packed.positions[packed.filled][None]
    starts = np.flatnonzero(positions[0] == 0)
    ends = np.append(starts, tokens.shape[1]).astype(np.int32)
    longest = int((ends[1:] - ends[:-1]).max(initial=0))
    fields = {
        "input_ids": _tensor(tokens),
        "labels": _tensor(np.where(positions == 0, IGNORED, tokens)),
        "position_ids": _tensor(positions),
        "cu_seq_lens_q": _tensor(ends),
        "cu_seq_lens_k": _tensor(ends.copy()),
        "max_length_q": longest,
        "max_length_k": longest,
    }
    return _with_mask(fields, None if packed.assistant is None else packed.assistant[packed.filled][None])


def _megatron(packed: Packed) -> Any:
    inputs = packed.inputs()
    loss = packed.filled[:, 1:]
    if packed.assistant is not None:
        loss = loss & packed.assistant[:, 1:]
    return {
        "tokens": _tensor(inputs),
        "labels": _tensor(packed.targets(0)),
        "loss_mask": _tensor(loss.astype(np.float32)),
        "position_ids": _tensor(np.tile(np.arange(inputs.shape[1]), (len(inputs), 1))),
    }


@dataclass(frozen=True)
class TokenFormat:
    """A format of batches for a trainer. It converts a batch of the tokens view.

    `make` gets the batch and returns a dict of tensors. Only a function at the top level of a module can be sent to
    worker processes.
    """

    make: Callable[[Packed], Any]
    shifted: bool = True  # whether inputs and targets are separated here, and not in the model
    flat: bool = False  # whether all rows of a batch are joined to one row


TOKEN_FORMATS = "choline_data.token_formats"  # the group of entry points by which installed packages add formats
FORMATS = {
    "nanogpt": TokenFormat(_nanogpt),
    "torchtitan": TokenFormat(_torchtitan, flat=True),
    "hf": TokenFormat(_hf, shifted=False),
    "hf_flat": TokenFormat(_hf_flat, shifted=False, flat=True),
    "megatron": TokenFormat(_megatron),
}


def token_format(name: str | TokenFormat) -> TokenFormat:
    """Returns the format with this name: a built-in one, or one that an installed package adds by an entry point.

    A TokenFormat is returned unchanged.
    """
    if isinstance(name, TokenFormat):
        return name
    if name not in FORMATS:
        for point in entry_points(group=TOKEN_FORMATS, name=name):
            return _loaded(point)
        raise InvalidOptionError(
            f"No token format {name!r}.", remedy=f"There are: {', '.join(FORMATS)}.", option="format"
        )
    return FORMATS[name]


def _loaded(point: EntryPoint) -> TokenFormat:
    package = point.dist.name if point.dist else point.value
    try:
        loaded = point.load()
    except Exception as error:  # code of another package runs at its import, and may raise anything
        raise InvalidOptionError(
            f"The token format {point.name!r} of {package} cannot be imported ({type(error).__name__}: {one_line(error, 200)}).",
            remedy=f"Update or uninstall {package}.",
            option="format",
        ) from error
    if not isinstance(loaded, TokenFormat):
        raise InvalidOptionError(
            f"The token format {point.name!r} of {package} is not a TokenFormat.",
            remedy=f"Update or uninstall {package}.",
            option="format",
        )
    return loaded


def row_seq_len(name: str | TokenFormat | None, seq_len: int) -> int:
    """Returns the `seq_len` that the recipe needs so that this format gives rows of `seq_len` tokens.

    Rows of a recipe have one token more than its `seq_len`.
    """
    if name is None or token_format(name).shifted:
        return seq_len
    if seq_len < 2:
        shown = name if isinstance(name, str) else "this format"
        raise InvalidOptionError(
            f"A row of {shown} with {seq_len} token has no target.",
            remedy="Set seq_len to 2 or more.",
            option="seq_len",
        )
    return seq_len - 1


def to_format(
    name: str | TokenFormat,
    batch: pa.RecordBatch,
    positions: Ints | None = None,
    datasets: Sequence[str] | None = None,
    *,
    arrays: Arrays | None = None,
) -> Any:
    """Converts a batch of the tokens view to this format. A dict gets `position` and `dataset` if the caller passes them."""
    arrays = arrays or Arrays.of(batch)
    batch_made = token_format(name).make(Packed(batch, arrays))
    if isinstance(batch_made, dict):
        if positions is not None:
            batch_made["position"] = _tensor(np.array(positions))
        if datasets is not None:
            batch_made["dataset"] = [datasets[code] for code in arrays.codes.tolist()]
    return batch_made


def end_to_end(rows: Sequence[Any]) -> Any:
    """Joins rows of a flat format to one batch: concatenates tensors, continues `cu_seq_lens`, takes the maximum of integers."""
    import torch

    first = rows[0]
    if isinstance(first, tuple):
        return tuple(map(end_to_end, zip(*rows, strict=True)))
    if isinstance(first, dict):
        return {name: _numbered_on(name, [row[name] for row in rows]) for name in first}
    if isinstance(first, torch.Tensor):
        return torch.cat(tuple(rows), dim=-1)
    if isinstance(first, list):
        return [item for row in rows for item in row]
    return max(rows) if isinstance(first, int) else list(rows)


def _numbered_on(name: str, values: list[Any]) -> Any:
    import torch

    if not name.startswith("cu_seq_lens"):
        return end_to_end(values)
    ends = [values[0]]
    for value in values[1:]:
        ends.append(value[1:] + ends[-1][-1])
    return torch.cat(ends)


def to_rows(
    name: str | TokenFormat, batch: pa.RecordBatch, positions: Ints | None = None, datasets: Sequence[str] | None = None
) -> list[Any]:
    """Returns each row of the batch separately.

    A flat format gives batches of one row; others give fields without batch dimension.
    """
    if token_format(name).flat:
        return [
            to_format(name, batch.slice(row, 1), None if positions is None else positions[row : row + 1], datasets)
            for row in range(batch.num_rows)
        ]
    whole = to_format(name, batch, None, datasets)
    rows = [dict(zip(whole, values, strict=True)) for values in zip(*whole.values(), strict=True)]
    if positions is not None:
        for row, position in zip(rows, positions.tolist(), strict=True):
            row["position"] = position
    return rows
