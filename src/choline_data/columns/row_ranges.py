"""Arithmetic on ranges of rows. Ranges are a matrix with two columns, start and stop (exclusive)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from choline_data.columns.arrow_values import Ints


def ranges_of(pairs: Sequence[tuple[int, int]]) -> Ints:
    """Returns pairs of (start, stop) as a matrix with one row for each range."""
    return np.array(pairs, np.int64).reshape(-1, 2)


def numbers_in(starts: Ints, counts: Ints) -> Ints:
    """Returns the numbers start … start+count-1 for each start and count, in one array."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - ends + counts, counts)


def runs_of(rows: Ints) -> Ints:
    """Returns the ranges of consecutive numbers in an ascending array."""
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    return np.column_stack((rows[np.concatenate(([0], cuts))], rows[np.concatenate((cuts, [len(rows)])) - 1] + 1))


def cut_at(ranges: Ints, edges: Ints) -> tuple[Ints, Ints]:
    """Cuts ranges where they cross one of these ascending edges. The ranges lie between the first and the last edge.

    Returns the parts that are not empty, and for each the number of the edge before it.
    """
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    first = np.searchsorted(edges, ranges[:, 0], side="right") - 1
    counts = np.searchsorted(edges, ranges[:, 1], side="left") - first
    if not (counts != 1).any():
        return ranges, first
    before = numbers_in(first, counts)
    whole = np.repeat(ranges, counts, axis=0)
    parts = np.column_stack((np.maximum(whole[:, 0], edges[before]), np.minimum(whole[:, 1], edges[before + 1])))
    there = parts[:, 0] < parts[:, 1]  # two equal edges give an empty part
    return parts[there], before[there]
