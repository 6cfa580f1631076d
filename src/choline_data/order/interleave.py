"""Sharing slots among weighted sources: exact quotas at every mixing block's end, a keyed order inside the block.

A source's quota after N slots comes from floors telescoped down a balanced tree of the weights, so that it never falls,
rises by one slot at a time, and stays within a few samples of its ideal at any N, with nothing accumulated. Inside a
mixing block the slots are dealt to the sources by a keyed permutation; each source's samples keep their own order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from choline_data.order.permute import Ints, key_of, shuffled

# 65,536 slots would take 3 ms to deal, 4,096 take 0.1: seeking stays under a millisecond, and the mix is kept closer.
MIXING_BLOCK = 4096


class Quotas:
    """How many of the first N slots belong to each source, for integer weights; zero weights are legal."""

    __slots__ = ("_nodes", "weights")

    def __init__(self, weights: Sequence[int]) -> None:
        if any(weight < 0 for weight in weights) or not sum(weights):
            raise ValueError("weights must not be negative, and not all zero")
        self.weights = tuple(weights)
        sums = [0]
        for weight in self.weights:
            sums.append(sums[-1] + weight)
        # (low, middle, weight of the left half, weight of both), parents before children
        self._nodes: list[tuple[int, int, int, int]] = []
        stack = [(0, len(weights))]
        while stack:
            low, high = stack.pop()
            if high - low > 1:
                middle = (low + high) // 2
                self._nodes.append((low, middle, sums[middle] - sums[low], sums[high] - sums[low]))
                stack += [(low, middle), (middle, high)]

    def after(self, slots: int) -> list[int]:
        """Each source's share of the first `slots` slots; the shares add up to `slots`."""
        share = [0] * len(self.weights)
        share[0] = slots
        for low, middle, left, both in self._nodes:
            whole = share[low]
            kept = whole * left // both if both else 0
            share[low] = kept
            share[middle] = whole - kept
        return share


def dealt(quota: Sequence[int], key: int) -> tuple[npt.NDArray[np.uint16], Ints]:
    """A mixing block's slots dealt: the source of each slot, and which of that source's samples of the block it is."""
    counts = np.asarray(quota, dtype=np.int64)
    slots = int(counts.sum())
    source = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)[shuffled(slots, key)]
    by_source = np.argsort(source, kind="stable")
    first = np.cumsum(counts) - counts
    nth = np.empty(slots, dtype=np.int64)
    nth[by_source] = np.arange(slots, dtype=np.int64) - np.repeat(first, counts)
    return source, nth


def block_key(seed: int, phase_start: int, block: int) -> int:
    """The key that deals mixing block `block` of the phase that starts at position `phase_start`."""
    return key_of("interleave", seed, phase_start, block)
