"""Computes, for each position of a recipe's stream, the source and which of its samples is there.

Segments and exhausted sources divide the stream into phases. Within a phase the weights are constant. Each source
continues where it stopped in the phase before, so no sample is lost or repeated.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import add, sub

import numpy as np
import numpy.typing as npt

from choline_data.errors import OutOfRangeError
from choline_data.order.interleave import MIXING_BLOCK, Quotas, block_key, dealt, dealt_at, share_on
from choline_data.order.permute import Ints
from choline_data.process.work import pause

_DEALT_KEPT = 32
_FEW_SLOTS = 32  # up to this many slots of a mixing block are computed one by one, which is cheaper than the block
_QUOTA_BOUND = 3  # samples by which a quota may differ from its ideal; the tests check this


@dataclass(frozen=True)
class Phase:
    """Positions [start, end) with constant weights. `base[i]` samples of source i come before the phase.

    `dealt_to` is where the phase would end if no segment followed. Its last mixing block is computed as if none
    followed, so that a segment which is appended later changes no earlier position.
    """

    start: int
    end: int | None
    dealt_to: int | None
    base: tuple[int, ...]
    quotas: Quotas


@dataclass(frozen=True)
class Placed:
    """Consecutive positions from `start`: for each, the source and the rank of the sample within that source."""

    start: int
    source: npt.NDArray[np.uint16]
    rank: Ints


def _first_exhaustion(quotas: Quotas, left: Sequence[int | None]) -> int | None:
    """The largest number of slots for which every source has enough samples left; None if no source ever runs out."""
    total = sum(quotas.weights)
    # A quota differs from its ideal by at most the bound, which limits how far a source's end is from its ideal end.
    earliest = [
        ((rest - _QUOTA_BOUND) * total // weight, rest, index)
        for index, (rest, weight) in enumerate(zip(left, quotas.weights, strict=True))
        if rest is not None and weight
    ]
    if not earliest:
        return None
    first, rest, index = min(earliest)
    low, high = max(first, 0), (rest + _QUOTA_BOUND) * total // quotas.weights[index] + 1
    near = [(quotas.path(index), rest) for start, rest, index in earliest if start <= high]

    def enough(slots: int) -> bool:
        return all(share_on(path, slots) <= rest for path, rest in near)

    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if enough(middle) else (low, middle - 1)
    return low


def _completion(quotas: Quotas, left: Sequence[int | None]) -> int | None:
    """The smallest number of slots in which every weighted source gives all its remaining samples.

    None if one of these sources has no end.
    """
    pairs = [(rest, index) for index, (rest, weight) in enumerate(zip(left, quotas.weights, strict=True)) if weight]
    wanted = [(rest, index) for rest, index in pairs if rest is not None and rest > 0]
    if any(rest is None for rest, _ in pairs):
        return None
    total = sum(quotas.weights)
    low = max(((rest - _QUOTA_BOUND) * total // quotas.weights[index] for rest, index in wanted), default=0)
    low = max(low, 0)
    # A source that is certainly complete before `low` has no influence on the result.
    latest = [((rest + _QUOTA_BOUND) * total // quotas.weights[index] + 1, rest, index) for rest, index in wanted]
    paths = [(quotas.path(index), rest) for last, rest, index in latest if last >= low]
    high = max((last for last, _, _ in latest), default=0)
    while low < high:
        middle = (low + high) // 2
        through = all(share_on(path, middle) >= rest for path, rest in paths)
        low, high = (low, middle) if through else (middle + 1, high)
    return low


class Plan:
    """The phases of a stream, and the function `place` from positions to (source, rank).

    `segments` are (start, weight of each source). `caps[i]` is the largest number of samples that source i gives; None
    means no end. `on_exhausted` says what happens when a source runs out. "renormalize": the other sources share its
    slots. "stop" and "error": the stream ends. "repeat": the source begins again, and the stream ends when every source
    has given its `caps[i]` samples. `length` is the exact number of positions; None means no end. With "renormalize" the
    phases of the last segment are computed only as far as they are needed; `length` is known without them.
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
        self.length: int | None = None
        self._caps = caps
        self._stops = on_exhausted in ("stop", "error")
        self._repeats = on_exhausted == "repeat"
        self._phases: list[Phase] = []
        self._starts: list[int] = []
        self._blocks: OrderedDict[tuple[int, int], tuple[npt.NDArray[np.uint16], Ints]] = OrderedDict()
        served = [0] * len(caps)
        for number, (start, weights) in enumerate(segments):
            last = number + 1 == len(segments)
            self._segment = (None if last else segments[number + 1][0], weights)
            self._open = (start, served)
            if last and not self._stops and not self._repeats:
                self.length = self._rest(start, served, weights)
                break
            while self._grow():
                pass
            position, served = self._open
            if last or position < segments[number + 1][0]:
                self.length = None if last and self._phases and self._phases[-1].end is None else position
                self._segment = (position, weights)
                break

    @staticmethod
    def _left(caps: Sequence[int | None], served: Sequence[int]) -> list[int | None]:
        return [None if cap is None else cap - done for cap, done in zip(caps, served, strict=True)]

    def _rest(self, position: int, served: Sequence[int], weights: Sequence[int]) -> int | None:
        """The position where the last segment ends, when all its sources have given their remaining samples."""
        ends = position
        for rest, weight in zip(self._left(self._caps, served), weights, strict=True):
            if weight:
                if rest is None:
                    return None
                ends += rest
        return ends

    def _grow(self) -> bool:
        """Adds the segment's next phase. Returns False if no further phase can follow it in the segment."""
        position, served = self._open
        until, weights = self._segment
        if (until is not None and position >= until) or (self._phases and self._phases[-1].end is None):
            return False
        left = self._left(self._caps, served)
        live = [weight if rest is None or rest > 0 else 0 for weight, rest in zip(weights, left, strict=True)]
        if not any(live) or (self._stops and live != list(weights)):
            return False
        pause()
        quotas = Quotas(weights if self._repeats else live)
        slots = _completion(quotas, left) if self._repeats else _first_exhaustion(quotas, left)
        natural = end = None if slots is None else position + slots
        if until is not None and (end is None or end > until):
            end = until
        self._phases.append(Phase(position, end, natural, tuple(served), quotas))
        self._starts.append(position)
        if end is None:
            return False
        self._open = (end, self._served_in(self._phases[-1], end))
        return True

    def _served_in(self, phase: Phase, position: int) -> list[int]:
        """The number of samples of each source before a position of the phase. The position may be the phase's end."""
        slots = position - phase.start
        block, offset = divmod(slots, MIXING_BLOCK)
        if not offset or position == phase.dealt_to:
            counts = phase.quotas.after(slots)
        else:
            dealt_before = np.bincount(self._dealt(phase, block)[0][:offset], minlength=len(phase.base)).tolist()
            before = phase.quotas.after(slots - offset)
            counts = [*map(add, before, dealt_before)]
        return [*map(add, phase.base, counts)]

    def served(self, position: int) -> list[int]:
        """The number of samples of each source before `position`."""
        return self._served_in(self._phase(max(position - 1, 0)), position) if position else [0] * len(self._caps)

    def ends(self) -> list[int | None]:
        """For each source, the position from which it gives no more samples; None if it never runs out."""
        out: list[int | None] = [None] * len(self._caps)
        if self._repeats:
            return out
        while self._grow():
            pass
        for phase in self._phases:
            if phase.end is not None:
                for index, rest in enumerate(self._left(self._caps, self._served_in(phase, phase.end))):
                    if rest == 0 and out[index] is None:
                        out[index] = phase.end
        return out

    def missing(self) -> list[int]:
        """Sources that are exhausted at the stream's end while others still have samples."""
        if self.length is None or self._repeats:
            return []
        left = self._left(self._caps, self.served(self.length))
        weighed = [index for index, weight in enumerate(self._segment[1]) if weight]
        out = [index for index in weighed if left[index] == 0]
        return out if len(out) < len(weighed) else []

    def _phase(self, position: int) -> Phase:
        if position < 0 or (self.length is not None and position >= self.length):
            raise OutOfRangeError(f"Position {position} is not in the stream, which has {self._extent}.")
        while not self._phases or ((end := self._phases[-1].end) is not None and end <= position):
            if not self._grow():
                break
        return self._phases[bisect.bisect_right(self._starts, position) - 1]

    @property
    def _extent(self) -> str:
        return "no end" if self.length is None else f"{self.length} positions"

    def _dealt(self, phase: Phase, block: int) -> tuple[npt.NDArray[np.uint16], Ints]:
        """The source and the rank of each slot of the block."""
        found = self._blocks.get((phase.start, block))
        if found is None:
            quota, base = self._shares(phase, block)
            source, nth = dealt(quota, block_key(self.seed, phase.start, block))
            nth += base[source]
            found = (source, nth)
            self._blocks[phase.start, block] = found
            while len(self._blocks) > _DEALT_KEPT:
                self._blocks.popitem(last=False)
        return found

    @staticmethod
    def _shares(phase: Phase, block: int) -> tuple[list[int], Ints]:
        """For each source, the number of its slots in the block, and the number of its samples before the block."""
        first = block * MIXING_BLOCK
        last = first + MIXING_BLOCK
        if phase.dealt_to is not None:
            last = min(last, phase.dealt_to - phase.start)
        before, after = phase.quotas.after(first), phase.quotas.after(last)
        return [*map(sub, after, before)], np.array([*map(add, phase.base, before)], dtype=np.int64)

    def at(self, positions: Ints) -> tuple[npt.NDArray[np.uint16], Ints]:
        """The source and the rank of each of these positions, which must ascend.

        Only the mixing blocks that contain some of the positions are computed, however far apart the positions are.
        """
        self._check(int(positions[0]), int(positions[-1]) + 1)
        count = len(positions)
        source, rank = np.empty(count, dtype=np.uint16), np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            pause()
            first = int(positions[done])
            phase = self._phase(first)
            block = (first - phase.start) // MIXING_BLOCK
            begin = phase.start + block * MIXING_BLOCK
            end = begin + MIXING_BLOCK if phase.end is None else min(begin + MIXING_BLOCK, phase.end)
            stop = bisect.bisect_left(positions, end, done + 1)
            slots = positions[done:stop] - begin
            held = self._blocks.get((phase.start, block))
            if held is None and stop - done <= _FEW_SLOTS:
                quota, base = self._shares(phase, block)
                its_source, its_rank = dealt_at(quota, block_key(self.seed, phase.start, block), slots)
                its_rank += base[its_source]
            else:
                of_block = held or self._dealt(phase, block)
                its_source, its_rank = of_block[0][slots], of_block[1][slots]
            source[done:stop], rank[done:stop] = its_source, its_rank
            done = stop
        return source, rank

    def _check(self, start: int, stop: int) -> None:
        if start < 0 or (self.length is not None and stop > self.length):
            raise OutOfRangeError(f"Positions {start} to {stop} are not all in the stream, which has {self._extent}.")

    def place(self, start: int, stop: int) -> Iterator[Placed]:
        """Positions start … stop-1 in order, in pieces. Each piece lies in one mixing block."""
        self._check(start, stop)
        while start < stop:
            phase = self._phase(start)
            block, offset = divmod(start - phase.start, MIXING_BLOCK)
            source, rank = self._dealt(phase, block)
            take = min(stop - start, len(source) - offset)
            if phase.end is not None:
                take = min(take, phase.end - start)
            yield Placed(start, source[offset : offset + take], rank[offset : offset + take])
            start += take
