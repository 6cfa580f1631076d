"""Computes the sample at each position of a recipe's stream: its source, and its number among the samples of this source.

`phases` divides the stream into parts with constant weights. Each part consists of mixing blocks, and only the blocks
that contain requested positions are computed.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from choline_data.errors import OutOfRangeError
from choline_data.order.few_slots import Groups, dealt_at
from choline_data.order.frequent_blocks import FREQUENT_BLOCKS
from choline_data.order.interleave import MIXING_BLOCK
from choline_data.order.permute import Ints
from choline_data.order.phases import Dealt, Phase, Phases
from choline_data.process.work import pause

INSIDE = "Choose positions from 0 to its last one."
_DEALT_KEPT = 32
# if more groups of slots of one mixing block are requested, the whole block is dealt, which is then cheaper
_FEW_GROUPS = 8
_BLOCKS_AT_ONCE = 128  # number of mixing blocks that are computed before other threads get a chance to run
_SHARES_AT_ONCE = 1 << 16  # number of quotas that are computed together


@dataclass(frozen=True)
class Placement:
    """The samples of consecutive positions from `start` on: for each the source, and the number of the sample in that
    source (its rank).
    """

    start: int
    source: npt.NDArray[np.uint16]
    rank: Ints


class Plan:
    """Computes the source and the rank at each position. The rank of a sample is its number among the samples of its
    source.

    `segments` has, for each part of the recipe with its own weights, the start and the weight of each source. `caps[i]`
    is the largest number of samples that source i gives; None means no end. `on_exhausted` says what happens when a
    source runs out. "renormalize": the other sources share its positions. "stop" and "error": the stream ends.
    "repeat": the source begins again, and the stream ends when every source has given its `caps[i]` samples.

    `length` is the exact number of positions. None means that the stream has no end, or ends at 2^62 or later. With
    "renormalize", `length` is computed without the phases of the last segment. Threads can share a plan.
    """

    def __init__(
        self,
        segments: Sequence[tuple[int, Sequence[int]]],
        caps: Sequence[int | None],
        *,
        seed: int,
        on_exhausted: str = "renormalize",
    ) -> None:
        self.seed = seed
        self._number = FREQUENT_BLOCKS.number()
        self._repeats = on_exhausted == "repeat"
        stops = on_exhausted in ("stop", "error")
        self._phases = Phases(segments, caps, seed=seed, stops=stops, repeats=self._repeats)
        self.length = self._phases.length()
        self._blocks: OrderedDict[tuple[int, int], Dealt] = OrderedDict()
        self._lock = threading.Lock()

    def samples_before(self, position: int) -> list[int]:
        """Returns the number of samples of each source before `position`."""
        if position:
            self._check_one(position - 1)
        counts: list[int] = self._phases.samples_before(position).tolist()
        return counts

    def ends(self) -> list[int | None]:
        """Returns, for each source, the position from which it gives no more samples; None if it never runs out."""
        return [None] * self._phases.sources if self._repeats else self._phases.ends()

    def missing(self) -> list[int]:
        """Returns the sources that have run out at the end of the stream, while other sources still have samples."""
        return [] if self.length is None or self._repeats else self._phases.missing(self.length)

    @property
    def _extent(self) -> str:
        return "no end" if self.length is None else f"{self.length} positions"

    def _check_one(self, position: int) -> None:
        if position < 0 or (self.length is not None and position >= self.length):
            raise OutOfRangeError(f"Position {position} is not in the stream, which has {self._extent}.", remedy=INSIDE)

    def _check(self, start: int, stop: int) -> None:
        if start < 0 or (self.length is not None and stop > self.length):
            raise OutOfRangeError(
                f"Positions {start} to {stop} are not all in the stream, which has {self._extent}.", remedy=INSIDE
            )

    def _deal(self, phase: Phase, block: int) -> Dealt:
        """Returns the source and the rank for each slot of the block. Caches the latest blocks."""
        dealt = self._blocks.get((phase.start, block))
        if dealt is None:
            dealt = phase.dealt(block, self.seed)
            with self._lock:
                self._blocks[phase.start, block] = dealt
                while len(self._blocks) > _DEALT_KEPT:
                    self._blocks.popitem(last=False)
        return dealt

    def at(self, positions: Ints) -> tuple[npt.NDArray[np.uint16], Ints]:
        """Returns the source and the rank of each of these positions. The positions must be in ascending order. Only the mixing
        blocks that contain some of the positions are computed, however far apart the positions are.
        """
        self._check(int(positions[0]), int(positions[-1]) + 1)
        source, rank = np.empty(len(positions), dtype=np.uint16), np.empty(len(positions), dtype=np.int64)
        done = 0
        while done < len(positions):
            phase = self._phases.at(int(positions[done]))
            stop = len(positions) if phase.end is None else bisect.bisect_left(positions, phase.end, done + 1)
            part = slice(done, stop)
            source[part], rank[part] = self._at_in(phase, positions[part] - phase.start)
            done = stop
        return source, rank

    def _at_in(self, phase: Phase, slots: Ints) -> Dealt:
        """Returns the source and the rank of each of these slots of a phase. The slots are in ascending order."""
        only = phase.quotas.only
        if only is not None:
            return np.full(len(slots), only, np.uint16), phase.begin.samples_before[only] + slots
        source, rank = np.empty(len(slots), np.uint16), np.empty(len(slots), np.int64)
        blocks, firsts = np.unique(slots // MIXING_BLOCK, return_index=True)
        bounds = np.append(firsts, len(slots))
        at_once = max(min(_SHARES_AT_ONCE // len(phase.begin.samples_before), _BLOCKS_AT_ONCE), 1)
        for first in range(0, len(blocks), at_once):
            pause()
            some = blocks[first : first + at_once]
            part = slice(int(bounds[first]), int(bounds[first + len(some)]))
            source[part], rank[part] = self._at_blocks(phase, some, slots[part])
        return source, rank

    def _at_blocks(self, phase: Phase, blocks: Ints, slots: Ints) -> Dealt:
        """Returns the source and the rank of each of these slots, which lie in these blocks."""
        source, rank = np.empty(len(slots), np.uint16), np.empty(len(slots), np.int64)
        which = np.searchsorted(blocks, slots // MIXING_BLOCK)
        within = slots - blocks[which] * MIXING_BLOCK
        groups = np.bincount(Groups.of(which, within)[0].block, minlength=len(blocks))
        bounds = np.searchsorted(which, np.arange(len(blocks) + 1)).tolist()
        few = np.ones(len(slots), bool)
        for number, block in enumerate(blocks.tolist()):
            whole = self._blocks.get((phase.start, block))
            if whole is None and groups[number] > _FEW_GROUPS:
                pause()
                whole = self._deal(phase, block)
            if whole is None:
                key = (self._number, phase.start, block)
                whole = FREQUENT_BLOCKS.get(key, partial(self._whole, phase, block))
            if whole is not None:
                part = slice(bounds[number], bounds[number + 1])
                source[part], rank[part] = whole[0][within[part]], whole[1][within[part]]
                few[part] = False
        if few.any():
            quotas, bases = phase.shares(blocks)
            source[few], nth = dealt_at(quotas, phase.keys(blocks, self.seed), which[few], within[few])
            rank[few] = nth + bases[which[few], source[few]]
        return source, rank

    def _whole(self, phase: Phase, block: int) -> Dealt:
        pause()
        return phase.dealt(block, self.seed)

    def place(self, start: int, stop: int) -> Iterator[Placement]:
        """Yields the samples at positions start … stop-1 in order, in pieces. Each piece lies in one mixing block."""
        self._check(start, stop)
        while start < stop:
            phase = self._phases.at(start)
            block, offset = divmod(start - phase.start, MIXING_BLOCK)
            source, rank = self._deal(phase, block)
            take = min(stop - start, len(source) - offset)
            if phase.end is not None:
                take = min(take, phase.end - start)
            yield Placement(start, source[offset : offset + take], rank[offset : offset + take])
            start += take
