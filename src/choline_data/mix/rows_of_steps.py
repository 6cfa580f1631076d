"""Finds the rows that a training step used. The recipe is enough for this: no log and no store is read."""

from __future__ import annotations

from typing import Any

import numpy as np

from choline_data.errors import OutOfRangeError
from choline_data.order import SourceOrder
from choline_data.order.recipe import Recipe


def explain(recipe: Recipe, start: int, stop: int, *, batch: int = 1, world: int = 1) -> list[dict[str, Any]]:
    """Returns position, rank, source, dataset, revision, row and epoch of each sample at positions start … stop-1.

    `row` is the number of the row among the rows that the source serves: the rows of its split that match its `where`.
    In the tokens view it is the number of a packed row.
    """
    if not 0 <= start < stop:
        raise OutOfRangeError(f"Positions {start} to {stop} are not in the stream.", remedy="Steps count from 0.")
    placed = list(recipe.plan().place(start, stop))
    source = np.concatenate([p.source for p in placed])
    rank = np.concatenate([p.rank for p in placed])
    rows = np.empty(len(rank), np.int64)
    for number in np.unique(source).tolist():
        spec = recipe.sources[number]
        key = f"tokens/{spec.key}" if recipe.view == "tokens" else spec.key
        order = SourceOrder(spec.rows, spec.block_rows, seed=recipe.row_seed, key=key, shuffle=recipe.shuffle)
        places = np.flatnonzero(source == number)
        row_numbers = np.empty(len(places), np.int64)
        for run in order.runs(rank[places]):
            ranges = order.ranges(run.epoch, run.window)
            starts = np.array([a for a, _ in ranges], np.int64)
            ends = np.cumsum(np.array([b - a for a, b in ranges], np.int64))
            block = np.searchsorted(ends, run.rows, side="right")
            row_numbers[run.at] = starts[block] + run.rows - np.concatenate([[0], ends])[block]
        rows[places] = row_numbers
    out: list[dict[str, Any]] = []
    for offset, (number, nth, row) in enumerate(zip(source.tolist(), rank.tolist(), rows.tolist(), strict=True)):
        spec, position = recipe.sources[number], start + offset
        out.append(
            {
                "position": position,
                "rank": position // batch % world,
                "source": spec.name,
                "dataset": spec.dataset,
                "revision": spec.revision,
                "row": row,
                "epoch": nth // spec.rows,
            }
        )
    return out
