"""Packed rows as the batches that trainers take, under their names: fields, dtypes and shifts as they define them.

=========== =============================================================================================== ===========
format      fields                                                                                          labels
=========== =============================================================================================== ===========
nanogpt     `x`, `y`: int64 [B, T]; targets cross documents, padding is -1                                  shifted
torchtitan  `({"input", "positions"}, labels)`: int64 [B*T]; no target crosses a document, -100 elsewhere   shifted
hf          `input_ids`, `attention_mask`, `labels`: int64 [B, T]; -100 on padding                          not shifted
hf_flat     `input_ids`, `labels`, `position_ids`: int64 [1, N]; `cu_seq_lens_q/k`, `max_length_q/k`        not shifted
megatron    `tokens`, `labels`, `position_ids`: int64 [B, T]; `loss_mask`: float32 [B, T]                   shifted
=========== =============================================================================================== ===========

Where a row has an assistant mask, `assistant_mask` (bool, in the place of the labels it belongs to) comes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from choline_data.errors import InvalidOptionError

Ints = npt.NDArray[np.int64]
IGNORED = -100


@dataclass(frozen=True)
class Packed:
    """A batch of packed rows as arrays: `tokens` [B, T+1], `length` [B], and where documents begin."""

    tokens: Ints
    length: Ints
    piece_rows: Ints  # which row each piece lies in
    piece_starts: Ints  # and at which place it begins
    piece_lengths: Ints
    assistant: npt.NDArray[np.bool_] | None

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Packed:
        """The arrays of a batch of the tokens view."""
        column = batch["tokens"]
        room = column.type.list_size
        tokens = np.asarray(column.flatten()).reshape(-1, room).astype(np.int64)
        pieces = batch["pieces"]
        ends = np.asarray(pieces.offsets).astype(np.int64)
        lengths = np.asarray(pieces.flatten().field("tokens")).astype(np.int64)
        counts = ends[1:] - ends[:-1]
        rows = np.repeat(np.arange(len(counts)), counts)
        before = np.cumsum(lengths) - lengths
        starts = before - np.repeat(before[np.minimum(ends[:-1] - ends[0], max(len(before) - 1, 0))], counts)
        mask = None
        if "mask" in batch.schema.names:
            mask = np.asarray(batch["mask"].flatten()).reshape(-1, room).astype(bool)
        return cls(tokens, np.asarray(batch["length"]).astype(np.int64), rows, starts, lengths, mask)

    @cached_property
    def begins(self) -> npt.NDArray[np.bool_]:
        """True where a document (or the rest of one) begins, and at the first place of the padding."""
        out = np.zeros(self.tokens.shape, bool)
        out[self.piece_rows, self.piece_starts] = True
        short = np.flatnonzero(self.length < self.tokens.shape[1])
        out[short, self.length[short]] = True
        return out

    @cached_property
    def filled(self) -> npt.NDArray[np.bool_]:
        """True where there is a token."""
        return np.arange(self.tokens.shape[1]) < self.length[:, None]

    @cached_property
    def positions(self) -> Ints:
        """0, 1, 2 … from each document's begin in the row."""
        place = np.broadcast_to(np.arange(self.tokens.shape[1]), self.tokens.shape)
        return place - np.maximum.accumulate(np.where(self.begins, place, 0), axis=1)


def _torch(values: npt.NDArray[Any]) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values))


def _shifted(packed: Packed, ignored: int) -> Ints:
    return np.where(packed.filled[:, 1:], packed.tokens[:, 1:], ignored)


def _with_mask(out: dict[str, Any], mask: npt.NDArray[np.bool_] | None) -> dict[str, Any]:
    if mask is not None:
        out["assistant_mask"] = _torch(mask)
    return out


def _nanogpt(packed: Packed) -> Any:
    out = {"x": _torch(packed.tokens[:, :-1]), "y": _torch(_shifted(packed, -1))}
    return _with_mask(out, None if packed.assistant is None else packed.assistant[:, 1:])


def _torchtitan(packed: Packed) -> Any:
    # The last token of a document predicts nothing: what follows belongs to another.
    labels = np.where(packed.begins[:, 1:], IGNORED, _shifted(packed, IGNORED))
    inputs = {
        "input": _torch(packed.tokens[:, :-1].reshape(-1)),
        "positions": _torch(packed.positions[:, :-1].reshape(-1)),
    }
    if packed.assistant is not None:
        inputs["assistant_mask"] = _torch(packed.assistant[:, 1:].reshape(-1))
    return inputs, _torch(labels.reshape(-1))


def _hf(packed: Packed) -> Any:
    tokens, filled = packed.tokens[:, :-1], packed.filled[:, :-1]
    out = {
        "input_ids": _torch(tokens),
        "attention_mask": _torch(filled.astype(np.int64)),
        "labels": _torch(np.where(filled, tokens, IGNORED)),
    }
    return _with_mask(out, None if packed.assistant is None else packed.assistant[:, :-1])


def _hf_flat(packed: Packed) -> Any:
    filled = packed.filled[:, :-1]
    tokens = packed.tokens[:, :-1][filled][None]
    positions = packed.positions[:, :-1][filled][None]
    starts = np.flatnonzero(positions[0] == 0)
    ends = np.append(starts, tokens.shape[1]).astype(np.int32)
    longest = int((ends[1:] - ends[:-1]).max()) if len(starts) else 0
    out = {
        "input_ids": _torch(tokens),
        "labels": _torch(np.where(positions == 0, IGNORED, tokens)),
        "position_ids": _torch(positions),
        "cu_seq_lens_q": _torch(ends),
        "cu_seq_lens_k": _torch(ends.copy()),
        "max_length_q": longest,
        "max_length_k": longest,
    }
    return _with_mask(out, None if packed.assistant is None else packed.assistant[:, :-1][filled][None])


def _megatron(packed: Packed) -> Any:
    place = np.broadcast_to(np.arange(packed.tokens.shape[1] - 1), (len(packed.tokens), packed.tokens.shape[1] - 1))
    loss = packed.filled[:, 1:]
    if packed.assistant is not None:
        loss = loss & packed.assistant[:, 1:]
    return {
        "tokens": _torch(packed.tokens[:, :-1]),
        "labels": _torch(packed.tokens[:, 1:]),
        "loss_mask": _torch(loss.astype(np.float32)),
        "position_ids": _torch(place),
    }


FORMATS: dict[str, Callable[[Packed], Any]] = {
    "nanogpt": _nanogpt,
    "torchtitan": _torchtitan,
    "hf": _hf,
    "hf_flat": _hf_flat,
    "megatron": _megatron,
}


def to_format(name: str, batch: pa.RecordBatch) -> Any:
    """A batch of the tokens view in the format of this name."""
    if name not in FORMATS:
        raise InvalidOptionError(f"No token format {name!r}.", remedy=f"There are: {', '.join(FORMATS)}.")
    return FORMATS[name](Packed.of(batch))
