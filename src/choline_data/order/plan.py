"""A recipe's stream as arithmetic: which source and which of its samples stands at each position.

Segments and exhausted sources cut the stream into phases. Within a phase the weights are constant and every source goes
on from where it stood: nothing lost, nothing repeated.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from choline_data.errors import OutOfRangeError
from choline_data.order.interleave import MIXING_BLOCK, Quotas, block_key, dealt
from choline_data.order.permute import Ints

_DEALT_KEPT = 32


@dataclass(frozen=True)
class Phase:
    """Positions [start, end) with constant weights; `base[i]` samples of source i were served before it."""

    start: int
    end: int | None
    base: tuple[int, ...]
    quotas: Quotas


@dataclass(frozen=True)
class Placed:
    """Consecutive positions from `start`: the source of each, and the rank of the sample within that source."""

    start: int
    source: npt.NDArray[np.uint16]
    rank: Ints


def _first_exhaustion(quotas: Quotas, left: Sequence[int | None]) -> int | None:
    """The most slots that no source's remaining samples fall short of; None where nothing ever runs out."""
    total = sum(quotas.weights)
    limits = [(rest, weight) for rest, weight in zip(left, quotas.weights, strict=True) if rest is not None and weight]
    if not limits:
        return None

    def enough(slots: int) -> bool:
        return all(rest is None or served <= rest for served, rest in zip(quotas.after(slots), left, strict=True))

    # A quota is within 64 samples of its ideal (tests hold it to 3): the answer lies between these two.
    low = min(max(rest - 64, 0) * total // weight for rest, weight in limits)
    high = min((rest + 64) * total // weight for rest, weight in limits) + 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if enough(middle) else (low, middle - 1)
    return low


class Plan:
    """The phases of a stream, and `place`, the function from positions to (source, rank).

    `segments` are (start, weight of each source); `caps[i]` is the most samples that source i gives, None for no end.
    `on_exhausted` is "renormalize" (the others share its slots) or "stop".
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
        self.phases: list[Phase] = []
        self.length: int | None = None
        self._blocks: OrderedDict[tuple[int, int], tuple[npt.NDArray[np.uint16], Ints]] = OrderedDict()
        served = [0] * len(caps)
        for number, (start, weights) in enumerate(segments):
            until = segments[number + 1][0] if number + 1 < len(segments) else None
            if self.length is not None and start >= self.length:
                break
            self.length = self._segment(start, until, weights, caps, served, on_exhausted)
            if self.length is not None and on_exhausted == "stop":
                break
        self._starts = [phase.start for phase in self.phases]

    def _segment(
        self,
        position: int,
        until: int | None,
        weights: Sequence[int],
        caps: Sequence[int | None],
        served: list[int],
        on_exhausted: str,
    ) -> int | None:
        """Adds the segment's phases; the stream's length where it ends within."""
        while until is None or position < until:
            left = [None if cap is None else cap - done for cap, done in zip(caps, served, strict=True)]
            live = [weight if rest is None or rest > 0 else 0 for weight, rest in zip(weights, left, strict=True)]
            if not any(live) or (on_exhausted == "stop" and live != list(weights)):
                return position
            quotas = Quotas(live)
            slots = _first_exhaustion(quotas, left)
            end = None if slots is None else position + slots
            if until is not None and (end is None or end > until):
                end = until
            if end is None or end > position:
                self.phases.append(Phase(position, end, tuple(served), quotas))
            if end is None:
                return None
            for index, count in enumerate(quotas.after(end - position)):
                served[index] += count
            position = end
        return None

    def served(self, position: int) -> list[int]:
        """How many samples of each source stand before `position`; exact at phase and mixing-block ends, the quota
        of a deal without permutation elsewhere."""
        phase = self._phase(max(position - 1, 0))
        return [b + q for b, q in zip(phase.base, phase.quotas.after(position - phase.start), strict=True)]

    def _phase(self, position: int) -> Phase:
        index = bisect.bisect_right(self._starts, position) - 1
        if index < 0:
            raise OutOfRangeError(f"Position {position} is before the stream's first, 0.")
        return self.phases[index]

    def _dealt(self, phase: Phase, block: int) -> tuple[npt.NDArray[np.uint16], Ints]:
        """The block's slots: source and rank of each."""
        found = self._blocks.get((phase.start, block))
        if found is None:
            first = block * MIXING_BLOCK
            last = first + MIXING_BLOCK
            if phase.end is not None:
                last = min(last, phase.end - phase.start)
            before, after = phase.quotas.after(first), phase.quotas.after(last)
            source, nth = dealt(
                [b - a for a, b in zip(before, after, strict=True)], block_key(self.seed, phase.start, block)
            )
            base = np.array([a + b for a, b in zip(phase.base, before, strict=True)], dtype=np.int64)
            nth += base[source]
            found = (source, nth)
            self._blocks[phase.start, block] = found
            while len(self._blocks) > _DEALT_KEPT:
                self._blocks.popitem(last=False)
        return found

    def place(self, start: int, stop: int) -> Iterator[Placed]:
        """Positions start … stop-1 in order, in pieces that each lie in one mixing block."""
        if start < 0 or (self.length is not None and stop > self.length):
            raise OutOfRangeError(
                f"Positions {start} to {stop} are not all in the stream, which has {self.length or 'endless'} positions."
            )
        while start < stop:
            phase = self._phase(start)
            block, offset = divmod(start - phase.start, MIXING_BLOCK)
            source, rank = self._dealt(phase, block)
            take = min(stop - start, len(source) - offset)
            yield Placed(start, source[offset : offset + take], rank[offset : offset + take])
            start += take
