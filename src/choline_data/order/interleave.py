"""Shares slots among weighted sources: exact quotas at the end of every mixing block, a keyed order inside the block.

A source's quota after N slots is computed from the root of a Huffman tree of the weights down to the source. At each
level the share of the lighter child is rounded down, and the heavier child gets the rest. The quota never falls, rises by
at most one per slot, and stays within 3 samples of its ideal at any N. Errors do not accumulate: if a node has more than
half of its parent's weight, each child of the node weighs no more than the node's sibling, so the rounding error of one
level is at least halved two levels further down. Inside a mixing block, a keyed permutation assigns the slots to the
sources. The samples of each source keep their own order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from choline_data.order.permute import Ints, hashed, key_of, shuffled

# A seek computes one whole block and may cost 1 ms. bench/order.py measures 0.3 ms for 4,096 slots, 8 ms for 65,536.
MIXING_BLOCK = 4096


class Quotas:
    """Computes how many of the first N slots belong to each source. Weights are integers; a weight may be zero."""

    __slots__ = ("_nodes", "_parent", "_slots", "weights")

    def __init__(self, weights: Sequence[int]) -> None:
        if not any(weights) or min(weights) < 0:
            raise ValueError("weights must not be negative, and not all zero")
        self.weights = tuple(weights)
        # Two queues, the leaves sorted by weight and the sums in the order of creation. Both ascend, so the lightest
        # nodes are always at the fronts of the two queues.
        self._slots = sorted(filter(weights.__getitem__, range(len(weights))), key=weights.__getitem__)
        count = len(self._slots)
        leaves = [*map(weights.__getitem__, self._slots), sum(weights) + 1]  # the last is larger than every sum
        sums: list[int] = []
        nodes = []
        self._parent = parent = [0] * (2 * count - 1)
        leaf = node = 0
        for made in range(count - 1):
            if node == made or leaves[leaf] <= sums[node]:
                light, weight = leaf, leaves[leaf]
                leaf += 1
            else:
                light, weight = count + node, sums[node]
                node += 1
            if node == made or leaves[leaf] <= sums[node]:
                dense, both = leaf, weight + leaves[leaf]
                leaf += 1
            else:
                dense, both = count + node, weight + sums[node]
                node += 1
            parent[light] = parent[dense] = made
            sums.append(both)
            nodes.append((count + made, light, dense, weight, both))
        # (node, lighter child, heavier child, weight of the lighter child, weight of both), parents before children
        self._nodes = nodes[::-1]

    def after(self, slots: int) -> list[int]:
        """The number of slots of each source among the first `slots` slots. The numbers add up to `slots`."""
        count = len(self._slots)
        share = [0] * (2 * count - 1)
        share[-1] = slots
        for node, light, dense, weight, both in self._nodes:
            whole = share[node]
            kept = whole * weight // both
            share[light] = kept
            share[dense] = whole - kept
        out = [0] * len(self.weights)
        for index, got in zip(self._slots, share, strict=False):
            out[index] = got
        return out

    def path(self, source: int) -> list[tuple[int, int, bool]]:
        """The path from the root to a source with a weight above 0.

        Each step is (weight of the lighter child, weight of both children, whether the path goes to the lighter child).
        """
        at, root = self._slots.index(source), len(self._parent) - 1
        way = []
        while at != root:
            node, light, _, weight, both = self._nodes[-1 - self._parent[at]]
            way.append((weight, both, light == at))
            at = node
        return way[::-1]


def share_on(path: Sequence[tuple[int, int, bool]], slots: int) -> int:
    """The share in `Quotas.after(slots)` of the source at the end of this path, without computing the other shares."""
    for weight, both, lighter in path:
        kept = slots * weight // both
        slots = kept if lighter else slots - kept
    return slots


def dealt(quota: Sequence[int], key: int) -> tuple[npt.NDArray[np.uint16], Ints]:
    """Assigns the slots of a mixing block to sources. Returns, for each slot, its source and a number n.

    The slot holds the n-th sample (from 0) of its source in this block.
    """
    counts = np.asarray(quota, dtype=np.int64)
    slots = int(counts.sum())
    source = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)[shuffled(slots, key)]
    by_source = np.argsort(source, kind="stable")
    first = np.cumsum(counts) - counts
    nth = np.empty(slots, dtype=np.int64)
    nth[by_source] = np.arange(slots, dtype=np.int64) - np.repeat(first, counts)
    return source, nth


def dealt_at(quota: Sequence[int], key: int, slots: Ints) -> tuple[npt.NDArray[np.uint16], Ints]:
    """The result of `dealt` for these slots only, which must ascend. The other slots are not computed.

    The shuffle of a block sorts distinct hashes, one for each sample. The k-th smallest hash names the sample of slot k
    and so its source. The samples of that source in earlier slots are those with a smaller hash.
    """
    ends = np.cumsum(np.asarray(quota, dtype=np.int64))
    words = hashed(int(ends[-1]), key)
    at = np.argpartition(words, slots)[slots]
    source = np.searchsorted(ends, at, side="right")
    firsts = (ends - quota)[source].tolist()
    nth = [
        np.count_nonzero(words[first:end] < word)
        for first, end, word in zip(firsts, ends[source].tolist(), words[at], strict=True)
    ]
    return source.astype(np.uint16), np.array(nth, dtype=np.int64)


def block_key(seed: int, phase_start: int, block: int) -> int:
    """The key of the permutation in mixing block `block` of the phase that starts at position `phase_start`."""
    return key_of("interleave", seed, phase_start, block)
