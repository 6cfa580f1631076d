"""The phases of a stream: the parts in which the weights of the sources do not change.

A new phase begins where a segment of the recipe begins (a part with its own weights), and where a source runs out of
samples. Each source continues where it stopped in the phase before, so no sample is lost or repeated.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from choline_data.order.interleave import MIXING_BLOCK, block_keys, dealt
from choline_data.order.permute import Ints, Words
from choline_data.order.quotas import ENDLESS, Quotas
from choline_data.process.work import pause

# The counts of every 64th phase stay in memory. The phases between are computed again when they are needed.
CHECKPOINT = 64
_RECENT = 8  # number of recently used phases that stay in memory

Dealt = tuple[npt.NDArray[np.uint16], Ints]


@dataclass(frozen=True)
class Mark:
    """Where a phase begins: its number, its position, its segment, and how many samples of each source come before it."""

    number: int
    position: int
    segment: int
    samples_before: Ints


@dataclass(frozen=True)
class Phase:
    """The positions from `begin` to `end`, in which the weights do not change.

    `dealt_to` is where the phase would end if no segment followed. The last mixing block of the phase is always
    computed as if no segment followed. So a segment that is appended later changes no earlier position.
    """

    begin: Mark
    end: int | None
    dealt_to: int | None
    quotas: Quotas

    @property
    def start(self) -> int:
        """Returns the first position of the phase."""
        return self.begin.position

    def samples_before(self, position: int, seed: int) -> Ints:
        """Returns the number of samples of each source before a position of the phase. The position may be the phase's end."""
        slots = position - self.start
        block, offset = divmod(slots, MIXING_BLOCK)
        if not offset or position == self.dealt_to:
            return self.begin.samples_before + self.quotas.after(slots)
        source, _ = self.dealt(block, seed)
        in_block = np.bincount(source[:offset], minlength=len(self.begin.samples_before))
        return self.begin.samples_before + self.quotas.after(slots - offset) + in_block

    def shares(self, blocks: Ints) -> tuple[Ints, Ints]:
        """Returns two matrices with a row for each block and a column for each source: how many slots the source has in
        the block, and how many samples it has before the block.
        """
        first = blocks * MIXING_BLOCK
        last = first + MIXING_BLOCK
        if self.dealt_to is not None:
            last = np.minimum(last, self.dealt_to - self.start)
        before, after = np.split(self.quotas.after_each(np.concatenate((first, last))), 2)
        return after - before, self.begin.samples_before + before

    def keys(self, blocks: Ints, seed: int) -> Words:
        """Returns the key of the order inside each of these mixing blocks."""
        return block_keys(seed, self.start, blocks)

    def dealt(self, block: int, seed: int) -> Dealt:
        """Returns, for each slot of the block, its source, and the number of the sample among all samples of that source."""
        only = np.array([block], np.int64)
        (quota,), (base,) = self.shares(only)
        source, nth = dealt(quota, int(self.keys(only, seed)[0]))
        nth += base[source]
        return source, nth


class Phases:
    """The phases of a stream. They are computed when they are needed. Threads can share this object.

    `segments` has, for each part of the recipe with its own weights, the start and the weight of each source. `caps[i]`
    is the largest number of samples that source i gives; None means no end. If `repeats` is set, a source begins again
    after `caps[i]` samples, and the stream ends when every source has given its `caps[i]` samples. If `stops` is set,
    the stream ends when a source runs out. Otherwise, the other sources share the slots of a source that has run out.

    Only the beginning of every 64th phase is kept. The phases after it are computed again when they are needed.
    """

    def __init__(
        self,
        segments: Sequence[tuple[int, Sequence[int]]],
        caps: Sequence[int | None],
        *,
        seed: int,
        stops: bool = False,
        repeats: bool = False,
    ) -> None:
        self._weights = [weights for _, weights in segments]
        self._untils = [*(start for start, _ in segments[1:]), None]
        self._caps = np.array([ENDLESS if cap is None else min(cap, ENDLESS) for cap in caps], np.int64)
        self._seed = seed
        self._stops = stops
        self._repeats = repeats
        self._starts: list[int] = []
        self._kept: list[Mark] = []
        self._recent: OrderedDict[int, Phase] = OrderedDict()
        self._last: Phase | None = None
        # the mark of the phase that follows the last computed one
        self._next: Mark | None = Mark(0, 0, 0, np.zeros(len(caps), np.int64))
        self._lock = threading.Lock()

    @property
    def sources(self) -> int:
        """The number of sources of the stream."""
        return len(self._caps)

    def remaining(self, served: Ints) -> Ints:
        """Returns the number of samples that each source has left; ENDLESS for a source that never runs out."""
        return np.where(self._caps < ENDLESS, self._caps - served, ENDLESS)

    def length(self) -> int | None:
        """The number of positions of the stream; None if it has no end. For a stream that stops or repeats, computes all phases.
        Otherwise computes the phases before the last segment.
        """
        last = len(self._weights) - 1
        while self._stops or self._repeats or (self._next is not None and self._next.segment < last):
            if not self._grow():
                return None if self._next is None else self._next.position
        assert self._next is not None
        weighted = np.array([weight > 0 for weight in self._weights[last]])
        rest = self.remaining(self._next.samples_before)[weighted].tolist()
        end = self._next.position + sum(rest)
        return end if end < ENDLESS else None

    def missing(self, length: int) -> list[int]:
        """Returns the sources that have run out at the end of the stream, while other sources of the same segment still
        have samples.
        """
        assert self._next is not None
        weighted = np.flatnonzero([weight > 0 for weight in self._weights[self._next.segment]])
        empty = self.remaining(self.samples_before(length))[weighted] == 0
        return [] if empty.all() else weighted[empty].tolist()

    def samples_before(self, position: int) -> Ints:
        """Returns the number of samples of each source before a position."""
        return self.at(position - 1).samples_before(position, self._seed) if position else np.zeros_like(self._caps)

    def ends(self) -> list[int | None]:
        """Returns, for each source, the position from which it gives no more samples; None if it never runs out."""
        out: list[int | None] = [None] * len(self._caps)
        while self._grow():
            pause()
        mark, phase = self._after(self._phase(0)), self._phase(0)
        while mark is not None:
            for source in np.flatnonzero(self.remaining(mark.samples_before) == 0).tolist():
                if out[source] is None:
                    out[source] = mark.position
            following = self._phase_at(mark, phase)
            if following is None:
                break
            mark, phase = self._after(following), following
        return out

    def at(self, position: int) -> Phase:
        """Returns the phase that contains a position of the stream."""
        while self._last is None or (self._last.end is not None and self._last.end <= position):
            pause()
            if not self._grow():
                break
        return self._phase(bisect.bisect_right(self._starts, position) - 1)

    def _phase(self, number: int) -> Phase:
        """Computes a phase that is not in memory. Begins at the latest earlier phase that is in memory."""
        with self._lock:
            near = max((n for n in self._recent if n <= number), default=-1)
            if self._last is not None and number == self._last.begin.number:
                return self._last
            phase = self._recent.get(near)
        mark = self._kept[number // CHECKPOINT]
        if phase is None or phase.begin.number < mark.number:
            phase = self._phase_at(mark, None)
        while phase is not None and phase.begin.number < number:
            pause()
            after = self._after(phase)
            phase = self._phase_at(after, phase) if after is not None else None
        assert phase is not None
        with self._lock:
            self._recent[number] = phase
            self._recent.move_to_end(number)
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return phase

    def _grow(self) -> bool:
        """Computes the next phase. Returns False at the end of the stream."""
        with self._lock:
            phase = self._phase_at(self._next, self._last) if self._next is not None else None
            if phase is None:
                return False
            if len(self._starts) % CHECKPOINT == 0:
                self._kept.append(phase.begin)
            self._starts.append(phase.start)
            self._last = phase
            self._next = self._after(phase)
            return True

    def _after(self, phase: Phase) -> Mark | None:
        """Returns the mark at which the next phase begins; None if this phase has no end."""
        if phase.end is None:
            return None
        segment = phase.begin.segment + (phase.end == self._untils[phase.begin.segment])
        return Mark(phase.begin.number + 1, phase.end, segment, phase.samples_before(phase.end, self._seed))

    def _phase_at(self, begin: Mark, before: Phase | None) -> Phase | None:
        """Returns the phase that begins at this mark, or None if the stream ends there.

        `before` is the previous phase. None if it is not in memory.
        """
        weights, until = self._weights[begin.segment], self._untils[begin.segment]
        left = self.remaining(begin.samples_before)
        if before is not None and before.begin.segment == begin.segment:
            weighted = before.quotas.weighted
        else:
            before, weighted = None, np.flatnonzero([weight > 0 for weight in weights])
        empty = weighted[left[weighted] <= 0]
        if len(empty) == len(weighted) or (self._stops and len(empty)):
            return None
        if before is not None:
            quotas = before.quotas.without(empty)
        else:
            quotas = Quotas(weights).without(empty if not self._repeats else empty[:0])
        slots = quotas.slots_through(left) if self._repeats else quotas.slots_within(left)
        natural = None if slots is None or begin.position + slots >= ENDLESS else begin.position + slots
        end = until if natural is None or (until is not None and natural > until) else natural
        return Phase(begin, end, natural, quotas)
