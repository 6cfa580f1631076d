"""Computes how many of the first N positions (slots) belong to each source, if the sources have weights.

This number is the quota of the source. It is computed along a Huffman tree of the weights, from the root down to the
source. At each node, the number of the lighter child is rounded down, and the heavier child gets the rest. With one
slot more, one quota rises by one and no quota falls. A quota differs from its exact share by less than 4 samples for
any N.

Rounding errors do not add up. If a node has more than half of its parent's weight, each child of the node weighs no
more than the node's sibling. So the rounding error of one level is at least halved two levels further down.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from choline_data.order.permute import Ints
from choline_data.order.trees import MOST_SLOTS, MOST_WEIGHT, ArrayTree, ListTree, Tree

ENDLESS = 1 << 62  # positions stay below this; a source with this many samples never runs out
MANY = 256  # number of sources up to which lists are as fast as arrays
FEW = 8  # for up to this many numbers of slots, the quotas are computed one by one with a `ListTree`
QUOTA_BOUND = 4  # a quota differs from its exact share by fewer samples than this, for any weights
_WIDER = 1e-9  # relative tolerance for rounding errors in floating-point bounds


class Quotas:
    """The quotas of sources with these weights. Weights are integers. None is negative, and at least one is positive."""

    def __init__(self, weights: Sequence[int]) -> None:
        if not any(weights) or min(weights) < 0:
            raise ValueError("weights must not be negative, and not all zero")
        weighted = sorted(filter(weights.__getitem__, range(len(weights))), key=weights.__getitem__)
        self._fill(len(weights), np.array(weighted), _tree([weights[source] for source in weighted]))

    def _fill(self, count: int, weighted: Ints, tree: Tree) -> None:
        self._count = count
        self.weighted = weighted  # the indices of the sources that have a weight, in the order of the tree's leaves
        self._tree = tree

    def without(self, sources: Ints) -> Quotas:
        """Returns the quotas for the same weights, but with weight 0 for these sources.

        At least one other source must have a weight.
        """
        chosen = np.zeros(self._count, dtype=bool)
        chosen[sources] = True
        removed = np.flatnonzero(chosen[self.weighted])
        if not len(removed):
            return self
        remaining = np.delete(self.weighted, removed)
        tree = self._tree
        quotas = object.__new__(Quotas)
        if isinstance(tree, ArrayTree) and len(remaining) > MANY:
            quotas._fill(self._count, remaining, tree.without(removed))
        else:
            quotas._fill(self._count, remaining, _tree(np.delete(self._leaves, removed).tolist()))
        return quotas

    @property
    def only(self) -> int | None:
        """Returns the source that gets every slot, or None if several sources have a weight."""
        return int(self.weighted[0]) if len(self.weighted) == 1 else None

    @cached_property
    def _leaves(self) -> Any:
        """Returns the exact weights of the leaves."""
        tree = self._tree
        return tree.leaves if isinstance(tree, ArrayTree) else np.array(tree.leaves, dtype=object)

    @cached_property
    def _shares(self) -> Any:
        """Returns the ideal share of each leaf in one slot, as floating-point numbers."""
        leaves = self._leaves.astype(np.float64)
        return leaves / leaves.sum()

    @cached_property
    def _lists(self) -> ListTree:
        return self._tree if isinstance(self._tree, ListTree) else ListTree(self._tree.leaves.tolist())

    @cached_property
    def _arrays(self) -> ArrayTree | None:
        """Returns the tree as an `ArrayTree`; None if the weights are too large for it."""
        if isinstance(self._tree, ArrayTree):
            return self._tree
        return ArrayTree(np.array(self._tree.leaves, np.int64)) if sum(self._tree.leaves) < MOST_WEIGHT else None

    def after(self, slots: int) -> Ints:
        """Returns the number of slots of each source among the first `slots` slots. `slots` is less than ENDLESS."""
        out = np.zeros(self._count, np.int64)
        if isinstance(self._tree, ArrayTree) and slots < MOST_SLOTS:
            out[self.weighted] = self._tree.after(np.array([slots]))[:, 0]
        else:
            out[self.weighted] = self._lists.after(slots)
        return out

    def after_each(self, slots: Ints) -> Ints:
        """Returns a matrix with one row for each of these numbers of slots: the result of `after` for it."""
        alone = isinstance(self._tree, ListTree) and len(slots) <= FEW
        arrays = self._arrays if int(slots.max()) < MOST_SLOTS and not alone else None
        if arrays is None:
            return np.stack([self.after(each) for each in slots.tolist()])
        out = np.zeros((len(slots), self._count), np.int64)
        out[:, self.weighted] = arrays.after(slots).T
        return out

    def slots_within(self, left: Ints) -> int | None:
        """Returns the largest number of slots in which no source gets more slots than it has samples in `left`.

        Returns None if every number of slots is small enough.
        """
        rest = left[self.weighted]
        ending = np.flatnonzero(rest < ENDLESS)
        if not len(ending):
            return None
        share, few = self._shares[ending], rest[ending]
        latest = ((few + QUOTA_BOUND) / share).min() * (1 + _WIDER)
        near = ending[(few - QUOTA_BOUND) / share <= latest]
        return min(self._most(leaf, int(rest[leaf])) for leaf in near.tolist())

    def slots_through(self, left: Ints) -> int | None:
        """Returns the smallest number of slots in which each source with a weight gets at least as many slots as it has
        samples in `left`.

        Returns None if a source never runs out.
        """
        rest = left[self.weighted]
        if (rest >= ENDLESS).any():
            return None
        earliest = ((rest - QUOTA_BOUND) / self._shares).max() * (1 - _WIDER)
        near = np.flatnonzero((rest + QUOTA_BOUND) / self._shares >= earliest)
        return max(0, *(self._most(leaf, int(rest[leaf]) - 1) + 1 for leaf in near.tolist()))

    def _most(self, leaf: int, slots: int) -> int:
        """Returns the largest number of slots of the root for which this leaf gets at most `slots`.

        Computes it from the leaf up to the root.
        """
        tree = self._tree
        node, root = tree.first_leaf + leaf, len(tree.both) - 1
        while node != root and root >= 0:
            above = int(tree.parent[node])
            weight, both = int(tree.weight[above]), int(tree.both[above])
            if int(tree.light[above]) == node:
                slots = ((slots + 1) * both - 1) // weight
            else:
                slots = slots * both // (both - weight)
            node = above
        return slots


def _tree(leaves: list[int]) -> Tree:
    if len(leaves) > MANY and sum(leaves) < MOST_WEIGHT:
        return ArrayTree(np.array(leaves, np.int64))
    return ListTree(leaves)
