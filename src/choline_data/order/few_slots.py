"""Computes the samples at a few positions of each of many mixing blocks, without the other positions of these blocks.

A mixing block is 4,096 positions (slots) that are shuffled together. This module serves a reader of one rank among
many, which needs a few neighbouring slots of very many blocks.

A block is shuffled by sorting hashes: each of its samples has a hash, and no two are equal. The sample with the k-th
smallest hash is in slot k. Hashes are spread evenly, so the k-th smallest hash lies within known, narrow bounds. Only
the hashes within these bounds are sorted, and those below the bounds are counted. The result also has the number of the
sample within its source: the number of samples of this source that have a smaller hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from choline_data.order.interleave import MIXING_BLOCK, dealt
from choline_data.order.permute import Ints, Words, complete_hashes, numbers_of, partial_hashes

GROUP = 32  # the largest distance between the first and the last slot of a group
_AT_ONCE = 8  # blocks that are hashed together: their hashes fit into the CPU's cache
_DEVIATIONS = (
    3.5  # width of the bounds, in standard deviations; about one group of two thousand lies outside, and takes longer
)
_FREE = 33  # number of low bits in which a hash of `partial_hashes` may differ from the complete hash
_MOST = (1 << 64) - 1
_Bits = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Groups:
    """Groups of neighbouring slots. Group g has the slots first[g] … last[g] of block number block[g]."""

    block: Ints
    first: Ints
    last: Ints

    @classmethod
    def of(cls, block: Ints, slots: Ints) -> tuple[Groups, Ints]:
        """Groups slots that are ascending within ascending blocks. Returns the groups, and the group of each slot."""
        cell = slots // GROUP
        begins = np.flatnonzero(np.diff(block, prepend=-1) | np.diff(cell, prepend=-1))
        ends = np.append(begins[1:], len(slots)) - 1
        which = np.repeat(np.arange(len(begins)), ends - begins + 1)
        return cls(block[begins], slots[begins], slots[ends]), which


def dealt_at(quotas: Ints, keys: Words, block: Ints, slots: Ints) -> tuple[npt.NDArray[np.uint16], Ints]:
    """Returns the same as `dealt`, but for some slots of several mixing blocks.

    Slot slots[i] lies in the block with the quotas quotas[block[i]] and the key keys[block[i]]. The slots ascend within
    a block, and the blocks ascend. Returns for each slot the source, and the number of the sample among the block's
    samples of this source.
    """
    groups, which = Groups.of(block, slots)
    ends = np.cumsum(quotas, axis=1)
    near = _near(ends[:, -1], keys, groups)
    source, nth = _sources(quotas, ends, keys, groups, near)
    at = slots - groups.first[which]
    out, numbers = source[which, at].astype(np.uint16), nth[which, at]
    for group in np.flatnonzero(~near.found).tolist():
        mine = which == group
        number = int(groups.block[group])
        whole = dealt(quotas[number], int(keys[number]))
        out[mine], numbers[mine] = whole[0][slots[mine]], whole[1][slots[mine]]
    return out, numbers


@dataclass(frozen=True)
class _Near:
    """For each group, the hashes that may belong to its slots, with the samples that have these hashes.

    `found` is True for a group if the hashes of all its slots are here. For the other groups nothing is here.
    """

    found: npt.NDArray[np.bool_]
    hashes: Words  # [group, …], filled up with the largest number
    fewer: Ints  # how many hashes of the block are smaller than all hashes in `hashes`
    # [group, …]: one bit for each sample of the block: whether its hash is smaller than all hashes in `hashes`
    below: _Bits
    inside: _Bits  # [group, …]: one bit for each sample of the block: whether its hash is in `hashes`


def _near(sizes: Ints, keys: Words, groups: Groups) -> _Near:
    size = sizes[groups.block]
    low, high = _bounds(groups.first, groups.last, size)
    count = len(size)
    masks = np.zeros((2, count, MIXING_BLOCK // 8), np.uint8)
    parts: list[Words] = []
    # Each row is 8 numbers longer than needed. Rows at distances of a power of two would share a part of the CPU's
    # cache.
    room = np.empty((2, _AT_ONCE, MIXING_BLOCK + 8), np.uint64)
    flags = np.empty((2, _AT_ONCE, MIXING_BLOCK), bool)
    for start in range(0, count, _AT_ONCE):
        some_groups = slice(start, min(start + _AT_ONCE, count))
        rows = some_groups.stop - start
        hashes = partial_hashes(keys[groups.block[some_groups]], *room[:, :rows, :MIXING_BLOCK])
        for row in np.flatnonzero(size[some_groups] < MIXING_BLOCK).tolist():
            hashes[row, size[start + row] :] = _MOST
        below, inside = flags[:, :rows]
        np.less(hashes, low[some_groups, None], out=below)
        np.less(hashes, high[some_groups, None], out=inside)
        inside ^= below
        masks[:, some_groups] = np.packbits(flags[:, :rows], axis=2, bitorder="little")
        parts.append(hashes[inside])
    below, inside = masks.view("<u8").astype(np.uint64, copy=False)
    fewer, held = _ones(below).sum(axis=1), _ones(inside).sum(axis=1)
    found = (fewer <= groups.first) & (fewer + held > groups.last)
    near = np.full((count, max(int(held.max()), 1)), _MOST, np.uint64)
    near[np.arange(near.shape[1]) < held[:, None]] = complete_hashes(np.concatenate(parts))
    return _Near(found, near, fewer, below, inside)


def _bounds(first: Ints, last: Ints, size: Ints) -> tuple[Words, Words]:
    """Returns a lower and an upper bound for the hashes of these slots of a block of `size` slots. The hashes probably lie
    between the bounds. The last _FREE bits of a bound are 0.
    """
    spread = _DEVIATIONS / np.sqrt(size)
    low, high = (first + 0.5) / size, (last + 0.5) / size
    low = low - spread * np.sqrt(low * (1 - low)) - 2 / size
    high = high + spread * np.sqrt(high * (1 - high)) + 2 / size
    most = (1 << 64 - _FREE) - 1
    from_, until = (np.clip(np.floor(part * most), 0, most).astype(np.uint64) for part in (low, high))
    free = np.uint64(_FREE)
    return from_ << free, np.where(until == most, np.uint64(_MOST), until << free)


def _sources(quotas: Ints, ends: Ints, keys: Words, groups: Groups, near: _Near) -> tuple[Ints, Ints]:
    """Returns the source of each slot of the groups, and how many samples of that source come before it in the block."""
    width = int((groups.last - groups.first).max()) + 1
    rank = np.where(near.found, groups.first - near.fewer, 0)[:, None] + np.arange(width)
    sorted_hashes = np.sort(near.hashes, axis=1)
    hashes_of_slots = np.take_along_axis(sorted_hashes, np.minimum(rank, near.hashes.shape[1] - 1), axis=1)
    sample = numbers_of(hashes_of_slots, keys[groups.block, None]) % MIXING_BLOCK
    # One search finds the sources in all blocks, because a shift makes the ends of each block larger than those of the
    # block before.
    shift = groups.block[:, None] * (MIXING_BLOCK + 1)
    every = (ends + np.arange(len(ends))[:, None] * (MIXING_BLOCK + 1)).reshape(-1)
    source = np.searchsorted(every, sample + shift, side="right") - groups.block[:, None] * ends.shape[1]
    source = np.minimum(source, ends.shape[1] - 1)
    end = ends[groups.block[:, None], source]
    first = end - quotas[groups.block[:, None], source]
    bounds = np.concatenate((first, end), axis=1)  # the first and the last sample of each slot's source
    fewer = _before(near.below, bounds)
    nth = fewer[:, width:] - fewer[:, :width]
    smaller = np.zeros((len(rank), near.hashes.shape[1] + 1), np.int64)
    np.cumsum(near.hashes < hashes_of_slots[:, :1], axis=1, out=smaller[:, 1:])
    among = np.take_along_axis(smaller, _before(near.inside, bounds), axis=1)
    nth += among[:, width:] - among[:, :width]
    same = source[:, :, None] == source[:, None, :]
    nth += np.count_nonzero(same & np.tri(width, k=-1, dtype=bool), axis=2)
    return source, nth


def _before(bits: _Bits, at: Ints) -> Ints:
    """Returns, for each row of bits, how many bits are set before each of the places `at`."""
    ends = np.zeros((len(bits), bits.shape[1] + 1), np.int64)
    np.cumsum(_ones(bits), axis=1, out=ends[:, 1:])
    row, word = np.arange(len(bits))[:, None], at // 64
    inside = bits[row, np.minimum(word, bits.shape[1] - 1)] & (
        (np.uint64(1) << (at % 64).astype(np.uint64)) - np.uint64(1)
    )
    counts: Ints = ends[row, word] + _ones(inside)
    return counts


def _ones(words: _Bits) -> Ints:
    """Returns the number of set bits in each of these words."""
    out: Any = words - (words >> np.uint64(1) & np.uint64(0x5555555555555555))
    out = (out & np.uint64(0x3333333333333333)) + (out >> np.uint64(2) & np.uint64(0x3333333333333333))
    out = (out + (out >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: Ints = (out * np.uint64(0x0101010101010101) >> np.uint64(56)).astype(np.int64)
    return counts
