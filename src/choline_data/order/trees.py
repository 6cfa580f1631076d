"""Huffman trees of weights. Each node divides a number of slots between its two children, in proportion to their weights.

A slot is a position of the stream that gets a sample of one source. The leaves of a tree are the sources. The tree is
built from the leaves up: a new node joins the two lightest nodes that have no parent yet. Its lighter child gets `slots
* weight // both` of its slots, and its heavier child gets the rest. Nodes have numbers in the order in which they are
made, so the last one is the root. Leaf i has the number `first_leaf + i`.

`ListTree` uses Python's integers and has no limits. `ArrayTree` is for many leaves: it computes many nodes at a time.
Both give the same numbers.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from choline_data.order.permute import Ints

MOST_SLOTS = 1 << 52  # for an `ArrayTree`: floating-point numbers hold this many slots exactly
MOST_WEIGHT = 1 << 61  # below this sum of weights, four times a weight fits in a 64-bit integer


class ListTree:
    """A tree of a few leaves, or of leaves with very large weights. `leaves` are the weights, in ascending order."""

    def __init__(self, leaves: Sequence[int]) -> None:
        self.leaves = leaves
        count = len(leaves)
        self.first_leaf = count - 1
        self.light: list[int] = []
        self.dense: list[int] = []
        self.weight: list[int] = []
        self.both: list[int] = []
        self.parent = [0] * (2 * count - 1)
        # Two queues, the leaves and the nodes that join others. Both ascend, so the lightest nodes are at their fronts.
        queue = [*leaves, sum(leaves) + 1]  # a sentinel at the end, which is heavier than every node
        leaf = node = 0
        for joined in range(count - 1):
            if node == joined or queue[leaf] <= self.both[node]:
                light, weight = count - 1 + leaf, queue[leaf]
                leaf += 1
            else:
                light, weight = node, self.both[node]
                node += 1
            if node == joined or queue[leaf] <= self.both[node]:
                dense, both = count - 1 + leaf, weight + queue[leaf]
                leaf += 1
            else:
                dense, both = node, weight + self.both[node]
                node += 1
            self.parent[light] = self.parent[dense] = joined
            self.light.append(light)
            self.dense.append(dense)
            self.weight.append(weight)
            self.both.append(both)

    def after(self, slots: int) -> list[int]:
        """Returns how many of this number of slots each leaf gets."""
        share = [0] * len(self.parent)
        if not self.both:
            return [slots]
        share[self.first_leaf - 1] = slots
        joined = zip(self.light, self.dense, self.weight, self.both, strict=True)
        for number, (light, dense, weight, both) in reversed([*enumerate(joined)]):
            whole = share[number]
            light_share = whole * weight // both
            share[light] = light_share
            share[dense] = whole - light_share
        return share[self.first_leaf :]


class ArrayTree:
    """A tree of many leaves. `leaves` are the weights, in ascending order; their sum is below MOST_WEIGHT.

    A tree without some of the leaves reuses the nodes that were made before the lightest of these leaves was joined.
    """

    def __init__(self, leaves: Ints, before: ArrayTree | None = None, same: int = 0) -> None:
        """Makes the tree of `leaves`. If `before` is a tree whose lightest `same` leaves are equal to those of this
        tree, its nodes are reused.
        """
        self.leaves = leaves
        joined = len(leaves) - 1
        self.first_leaf: int = joined if before is None else before.first_leaf
        self.light, self.dense, self.weight, self.both = (np.empty(joined, np.int64) for _ in range(4))
        self._rounds = [(0, 0, 0)]
        if before is not None:
            self._rounds = before._rounds[: bisect.bisect_right(before._rounds, same, key=lambda array: array[1])]
            done = self._rounds[-1][0]
            for array, old in zip(self._nodes, before._nodes, strict=True):
                array[:done] = old[:done]
        while self._rounds[-1][0] < joined:
            self._rounds.append(self._round(*self._rounds[-1]))

    @property
    def _nodes(self) -> tuple[Ints, Ints, Ints, Ints]:
        return self.light, self.dense, self.weight, self.both

    def _round(self, joins: int, leaf: int, node: int) -> tuple[int, int, int]:
        """Joins many nodes at once: all nodes that are no heavier than the node which the two lightest ones will form.

        `joins` is the number of nodes so far that join two others. The first `leaf` leaves, and the first `node` of the
        joining nodes, already have a parent. Returns the new values of these three numbers.
        """
        leaves, both = self.leaves, self.both
        two = sorted([*leaves[leaf : leaf + 2].tolist(), *both[node : min(node + 2, joins)].tolist()])[:2]
        last_leaf = int(leaves.searchsorted(sum(two), "right"))
        last_node = int(both[:joins].searchsorted(sum(two), "right"))
        weights = np.concatenate((leaves[leaf:last_leaf], both[node:last_node]))
        order = weights.argsort(kind="stable")  # stable: among equal weights, leaves come first
        weights = weights[order]
        of_leaves = last_leaf - leaf
        numbers = np.where(order < of_leaves, order + (self.first_leaf + leaf), order + (node - of_leaves))
        pairs = len(order) // 2
        if len(order) % 2:  # with an odd number, the heaviest node is joined in the next round
            last_leaf, last_node = (
                (last_leaf, last_node - 1) if numbers[-1] < self.first_leaf else (last_leaf - 1, last_node)
            )
        now = slice(joins, joins + pairs)
        self.light[now], self.dense[now] = numbers[0 : 2 * pairs : 2], numbers[1 : 2 * pairs : 2]
        self.weight[now] = weights[0 : 2 * pairs : 2]
        self.both[now] = self.weight[now] + weights[1 : 2 * pairs : 2]
        return joins + pairs, last_leaf, last_node

    def without(self, leaves: Ints) -> ArrayTree:
        """Returns the tree without the leaves of these numbers. The numbers are in ascending order, and at least one leaf stays."""
        return ArrayTree(np.delete(self.leaves, leaves), self, int(leaves[0]))

    @cached_property
    def parent(self) -> Ints:
        """Returns the parent of each node."""
        parent = np.zeros(self.first_leaf + len(self.leaves), np.int64)
        number = np.arange(len(self.both), dtype=np.int64)
        parent[self.light] = number
        parent[self.dense] = number
        return parent

    @cached_property
    def _levels(self) -> list[slice]:
        """Yields ranges of nodes from the root down. No node of a range is the parent of another node of the same range."""
        parent, stop = self.parent[: len(self.both)], len(self.both)
        levels = []
        while stop:
            start = int(parent[: stop - 1].searchsorted(stop)) if stop < len(self.both) else stop - 1
            levels.append(slice(start, stop))
            stop = start
        return levels

    @cached_property
    def _ratio(self) -> Any:
        return self.weight / self.both

    def after(self, slots: Ints) -> Ints:
        """Returns a matrix: for each leaf (a row) and each entry of `slots` (a column), how many of these slots the leaf
        gets.

        The entries are below MOST_SLOTS.
        """
        most = int(slots.max())
        share = np.empty((self.first_leaf + len(self.leaves), len(slots)), np.int64)
        if not len(self.both):
            share[self.first_leaf] = slots
            return share[self.first_leaf :]
        plain = most * int(self.both[-1]) < 1 << 63
        share[len(self.both) - 1] = slots
        for level in self._levels:
            whole, weight, both = share[level], self.weight[level, None], self.both[level, None]
            if plain:
                light_share = whole * weight // both
            else:
                # The estimate is wrong by at most 3. So the remainder is below four times `both`, and its low 64 bits
                # suffice to correct it.
                light_share = (whole * self._ratio[level, None]).astype(np.int64)
                light_share += (whole * weight - light_share * both) // both
            share[self.light[level]] = light_share
            share[self.dense[level]] = whole - light_share
        return share[self.first_leaf :]


Tree = ListTree | ArrayTree
