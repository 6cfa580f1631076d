"""Plans for tests, and what they place, as arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from choline_data.order import Plan


def plan(weights, caps=None, **options):
    """A plan of these weights, or of segments: (start, weights)."""
    segments = weights if isinstance(weights[0], tuple) else [(0, weights)]
    return Plan(segments, caps or [None] * len(segments[0][1]), **{"seed": 3, **options})


def placed(of, start, stop):
    """The (source, rank) of positions start … stop-1, as one array of two columns."""
    pieces = list(of.place(start, stop))
    if not pieces:
        return np.empty((0, 2), dtype=np.int64)
    return np.column_stack(
        [
            np.concatenate([p.source.astype(np.int64) for p in pieces]),
            np.concatenate([p.rank for p in pieces]),
        ]
    )


def ranks_are_whole(rows):
    """Whether each source's ranks are 0, 1, 2 … in order: nothing lost, nothing repeated."""
    return all(
        rows[rows[:, 0] == s, 1].tolist() == list(range(int((rows[:, 0] == s).sum()))) for s in np.unique(rows[:, 0])
    )


CHANGES = st.lists(
    st.tuples(st.integers(1, 9000), st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any)),
    max_size=5,
)
