"""Batches with a budget of tokens. Each rank gets as many samples as fit into the budget on every rank.

A step has n consecutive samples for each rank. n is the largest number for which the samples of each rank fit into the
budget. If one sample alone exceeds the budget, n is 1. So the position where a step begins and the number of ranks
determine the step. All ranks make the same number of steps, and a state needs only one position. The cost is that every
rank, and every worker of a rank, reads the samples of all ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.client.passing.passes import Pass, PassProgress, join_chunks
from choline_data.client.ranks.share import Share
from choline_data.client.readers.reader import Chunk
from choline_data.columns.arrow_values import byte_lengths, numbers
from choline_data.mix.measure import BYTES_A_TOKEN
from choline_data.order.lanes import Ints, Lane


def tokens_of(batch: pa.RecordBatch) -> Ints:
    """Returns the approximate token count of each sample, at least 1. Estimated from bytes of text, as `unit="tokens"` does."""
    names = batch.schema.names
    count = byte_lengths(batch["text"]) if "text" in names else np.zeros(batch.num_rows, np.int64)
    if "turns" in names:
        turns = batch["turns"]
        flat = byte_lengths(turns.flatten().field("content"))
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(flat)])
        sizes = numbers(pc.list_value_length(turns).fill_null(0)).astype(np.int64)
        last = np.cumsum(sizes)
        count = count + ends[last] - ends[last - sizes]
    if "extra" in names:
        count = np.where(count > 0, count, byte_lengths(batch["extra"]))
    tokens: Ints = np.maximum(-(-count * BYTES_A_TOKEN.denominator // BYTES_A_TOKEN.numerator), 1)
    return tokens


def samples_a_rank(tokens: npt.NDArray[np.int64], world: int, budget: int) -> int | None:
    """Returns how many of these samples each rank takes. None if more samples are needed to decide."""
    most = len(tokens) // world
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(tokens)])
    each = np.arange(1, most + 1)
    tokens_held = np.diff(ends[np.outer(each, np.arange(world + 1))], axis=1)
    over = np.flatnonzero((tokens_held > budget).any(axis=1))
    return max(int(over[0]), 1) if len(over) else None


@dataclass
class BudgetProgress(PassProgress):
    """The progress of a pass with a budget of tokens. It counts the samples of all ranks, because the start of a step
    depends on the lengths of all samples before it.
    """

    skip: int = 0  # how many steps of other workers come before the next step of this worker

    def after(self) -> int:
        """Returns the position of the rank's step that follows the last step yielded here."""
        return self.position()


class BudgetPass(Pass):
    """Yields one rank's batches. Each has at most `budget` tokens, unless a single sample has more."""

    def __init__(self, progress: BudgetProgress, *arguments: Any, share: Share, budget: int, last: str, **options: Any):
        super().__init__(progress, *arguments, batch=1, **options)
        self._share, self._budget, self._last = share, budget, last

    def read_on(self, *arguments: Any, **options: Any) -> None:
        """Continues with this reader after the last step. Discards what another reader read ahead."""
        super().read_on(*arguments, **options)
        self._ready: Chunk | None = None  # the samples of all ranks that come next
        self._tokens: Ints = np.zeros(0, np.int64)

    def _go_to(self, index: int) -> None:
        super()._go_to(index)
        self._ready, self._tokens = None, np.zeros(0, np.int64)

    def _next_batch(self, size: int) -> Any:
        progress = self.progress
        assert isinstance(progress, BudgetProgress)
        while True:
            with self._reading():
                step, count = self._step()
                progress.given += 0 if step is None else step.batch.num_rows
            if step is None:
                self._end()
            if progress.skip:
                progress.skip -= 1
                continue
            progress.skip = self._share.workers - 1
            first = self._share.rank * count
            mine = step.part(first, first + count)
            if not mine.batch.num_rows:
                self._end()
            return self._make_batch(self._without_banned(mine))

    def skip(self, steps: int) -> None:
        """Skips `steps` steps after the last one yielded. Reads them, because only their samples show where they end."""
        progress = self.progress
        assert isinstance(progress, BudgetProgress)
        for _ in range(steps * self._share.workers):
            step, _ = self._step()
            if step is None:
                break
            progress.given += step.batch.num_rows

    def _step(self) -> tuple[Chunk | None, int]:
        """Returns the samples of all ranks in the next step, and the number of samples for each rank."""
        world = self._share.world
        while True:
            count = samples_a_rank(self._tokens, world, self._budget)
            if count is not None:
                return self._taken(count * world), count
            more = self._fetch()
            if more is not None:
                parts = [self._ready, more] if self._ready is not None else [more]
                self._ready = join_chunks(parts)
                self._tokens = np.concatenate([self._tokens, tokens_of(more.batch)])
                continue
            rest = len(self._tokens)
            if rest >= world:
                return self._taken(rest // world * world), rest // world
            if not rest or self._last == "drop":
                return None, 0
            step = self._taken(rest)
            if self._last == "wrap":
                again = np.arange(world - rest, dtype=np.int64)
                step = join_chunks([step, Chunk(self._reader().at(again.tolist()), again)])
            return step, 1

    def _taken(self, count: int) -> Chunk:
        ready = self._ready
        assert ready is not None
        self._ready = ready.part(count, ready.batch.num_rows)
        self._tokens = self._tokens[count:]
        return ready.part(0, count)


def progress_of(
    share: Share, start: int, end: int | None, epoch: int, begun: Mapping[str, Any] | None
) -> BudgetProgress:
    """Returns the progress of a pass over the samples of all ranks.

    The pass begins at `start`, or at the position in this worker's state, `begun`.
    """
    progress = BudgetProgress(Lane(start), 0, 0, end, epoch, worker=share.worker, workers=share.workers, split="tokens")
    progress.skip = share.worker
    if begun is not None:
        progress.lane, progress.skip = Lane(begun["position"]), int(begun.get("skip", 0))
    return progress
