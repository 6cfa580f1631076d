"""Finds the rows that cause a spike of the loss. Each loss is compared with the recent losses of its dataset.

The comparison uses the median and the median deviation of a dataset's recent losses, because a spike hardly changes
them. The score of a step is the mean score of its rows. It is compared with the scores of earlier steps in the same way.
Losses of single rows often have a long tail: a few are many deviations above the median without a fault. So the score of a
step must also be far above the highest scores of earlier steps.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from choline_data.client.feedback.bans import ID_BYTES, id_bytes, id_words
from choline_data.client.readers.reader import Chunk
from choline_data.columns.arrow_values import numbers
from choline_data.errors import InvalidOptionError
from choline_data.order.lanes import Ints

log = logging.getLogger("choline_data")
WINDOW = 256  # number of recent losses that are kept for each dataset, and number of recent step scores
ENOUGH = 16  # losses of a dataset needed before a comparison
ENOUGH_STEPS = 32  # steps needed before a comparison
SPIKE = 6.0  # a loss spike is at least this many deviations above the median
NAMED = 100  # number of rows that are kept of a spike
GIVEN_ROWS = 1 << 14  # number of the latest rows that are kept, to find the rows of reported ids
_SIGMA = 1.4826  # converts a median deviation to a standard deviation of a normal distribution
_TAIL = 32  # one of this many earlier steps may be a spike; the highest of the others shows how long the tail is
_REFRESH = 16  # a dataset's median is computed again after this many new losses
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class YieldedRows:
    """Rows that were yielded to the training loop. Each has a position, a dataset number and, if the stream has ids, an
    id.
    """

    positions: Ints
    datasets: Ints
    ids: npt.NDArray[np.uint64] | None

    @classmethod
    def of(cls, chunk: Chunk) -> YieldedRows:
        """Returns the rows of a chunk. Does not keep the chunk in memory."""
        ids = id_words(chunk.batch["id"]).copy() if "id" in chunk.batch.schema.names else None
        return cls(chunk.positions, numbers(chunk.batch["dataset"]).astype(np.int64), ids)

    @classmethod
    def of_batch(cls, batch: Mapping[str, Any], names: Sequence[str]) -> YieldedRows:
        """Returns the rows of a trainer's batch.

        Raises InvalidOptionError if the batch lacks `position` or `dataset`.
        """
        if "position" not in batch or "dataset" not in batch:
            raise InvalidOptionError(
                "The batch has neither the positions nor the datasets of its rows.",
                remedy='Report ids, or keep "position" and "dataset" in the batch.',
                option="ids",
            )
        column = getattr(batch, "arrow", lambda name: None)("dataset")
        codes = {name: number for number, name in enumerate(names)}
        datasets = numbers(column) if column is not None else [codes.get(name, -1) for name in batch["dataset"]]
        ids = batch.get("id")
        words = None if ids is None else np.frombuffer(b"".join(ids), np.uint64).reshape(-1, 2)
        return cls(np.asarray(batch["position"]).astype(np.int64), np.array(datasets, np.int64), words)

    def where(self, wanted: npt.NDArray[Any], key: npt.NDArray[Any]) -> Ints:
        """Returns the row number of each `wanted` value in `key`, or -1 if `key` lacks the value.

        `key` has one value for each row.
        """
        order = np.argsort(key, kind="stable")
        at = order[np.minimum(np.searchsorted(key, wanted, sorter=order), len(key) - 1)]
        rows: Ints = np.where(key[at] == wanted, at, -1)
        return rows

    def take(self, rows: Ints) -> YieldedRows:
        """Returns the rows with these numbers."""
        return YieldedRows(self.positions[rows], self.datasets[rows], None if self.ids is None else self.ids[rows])


def _joined(parts: Sequence[YieldedRows]) -> YieldedRows:
    ids = [p.ids for p in parts if p.ids is not None]
    return YieldedRows(
        np.concatenate([p.positions for p in parts]),
        np.concatenate([p.datasets for p in parts]),
        np.concatenate(ids) if len(ids) == len(parts) else None,
    )


class Windows:
    """The recent losses of each dataset, with their medians and deviations."""

    def __init__(self, count: int) -> None:
        self._losses = np.full((count, WINDOW), np.inf)
        self.seen = np.zeros(count, np.int64)
        self._known = np.zeros(count, np.int64)  # how many losses the dataset had when its median was last computed
        self.median: Floats = np.full(count, np.nan)
        self.deviation: Floats = np.full(count, np.nan)

    def add(self, sources: Ints, losses: Floats) -> None:
        """Adds finite losses to the windows of their datasets."""
        order = np.argsort(sources, kind="stable")
        counts = np.bincount(sources, minlength=len(self.seen))
        starts = np.cumsum(counts) - counts
        mine = sources[order]
        slot = self.seen[mine] + np.arange(len(mine)) - starts[mine]
        self._losses[mine, slot % WINDOW] = losses[order]
        self.seen += counts
        fresh = self.seen - self._known
        stale = np.flatnonzero((fresh >= _REFRESH) | ((fresh > 0) & (self.seen < 4 * ENOUGH)))
        if len(stale):
            filled = np.minimum(self.seen[stale], WINDOW)
            values = self._losses[stale]
            self.median[stale] = median = _medians(values, filled)
            self.deviation[stale] = _medians(np.abs(values - median[:, None]), filled) * _SIGMA
            self._known[stale] = self.seen[stale]

    def take(self, source: int, other: Windows, into: int) -> None:
        """Copies the losses of dataset number `source` of `other` into dataset number `into` of this object."""
        for ours, theirs in zip(self._kept(), other._kept(), strict=True):
            ours[source] = theirs[into]

    def _kept(self) -> tuple[npt.NDArray[Any], ...]:
        return self._losses, self.seen, self._known, self.median, self.deviation

    def deviation_of_tail(self) -> float:
        """Returns the deviation of the normal distribution whose highest losses would be those of dataset 0."""
        losses = np.sort(self._losses[0, : min(int(self.seen[0]), WINDOW)])
        left_out = max(1, len(losses) // _TAIL)
        highest = NormalDist().inv_cdf(1 - left_out / (len(losses) + 1))
        return float(losses[-left_out] - self.median[0]) / highest

    def score(self, sources: Ints, losses: Floats) -> Floats:
        """Returns how many deviations each loss is above its dataset's median.

        The score is 0 until the dataset has enough losses.
        """
        median = self.median[sources]
        scale = np.maximum(self.deviation[sources], np.maximum(np.abs(median) * 1e-3, 1e-9))
        score: Floats = np.where(self.seen[sources] < ENOUGH, 0.0, (losses - median) / scale)
        return np.where(np.isfinite(losses), score, np.inf)


def _medians(values: Floats, filled: Ints) -> Floats:
    """Returns the median of the first `filled` values of each row. The other values must be infinite."""
    values = np.sort(values, axis=1)
    rows = np.arange(len(values))
    median: Floats = (values[rows, (filled - 1) // 2] + values[rows, filled // 2]) / 2
    return median


class Outliers:
    """The reported losses and the rows of the last spike. A dataset and the loaders made from it share one object."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._windows = Windows(0)
        self._steps = Windows(1)
        self._last: Chunk | Mapping[str, Any] | None = None
        self._yielded: deque[YieldedRows] | None = None  # Rows are recorded only after the first report.
        self._rows = 0
        self._spike: list[dict[str, Any]] = []
        self.reports = self.spikes = self.unknown = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None, "_given": None, "_rows": 0}

    def follow(self, datasets: Sequence[str]) -> None:
        """Uses the dataset numbers of a changed stream from now on. Keeps the losses of datasets that are still in the
        stream.
        """
        if tuple(datasets) == self._names:
            return
        windows, before = Windows(len(datasets)), {name: number for number, name in enumerate(self._names)}
        for number, name in enumerate(datasets):
            if name in before:
                windows.take(number, self._windows, before[name])
        self._names, self._windows = tuple(datasets), windows
        self._last, self._yielded, self._rows = None, None, 0

    def saw(self, rows: Chunk | Mapping[str, Any]) -> None:
        """Records the rows that were just yielded."""
        self._last = rows
        if self._yielded is not None:
            self._keep(self._yielded, rows)

    def _keep(self, kept: deque[YieldedRows], rows: Chunk | Mapping[str, Any]) -> None:
        latest = YieldedRows.of(rows) if isinstance(rows, Chunk) else YieldedRows.of_batch(rows, self._names)
        kept.appendleft(latest)
        self._rows += len(latest.positions)
        while self._rows - len(kept[-1].positions) >= GIVEN_ROWS:
            self._rows -= len(kept.pop().positions)

    def report(self, ids: Any, losses: Any) -> bool:
        """Records the loss of each of these rows. Returns True if the losses are a spike."""
        values = _floats(losses)
        if self._yielded is None:
            self._yielded = deque()
            if self._last is not None:
                self._keep(self._yielded, self._last)
        if isinstance(ids, Mapping):
            rows, there = YieldedRows.of_batch(ids, self._names), None
        else:
            wanted, by_id = _numbers_to_find(ids)
            rows, there = self._find(wanted, by_id, self._yielded)
        count = len(rows.positions) if there is None else len(there)
        if count != len(values):
            raise InvalidOptionError(
                f"{count} rows and {len(values)} losses were reported.",
                remedy='Give one loss per row: reduction="none", then the mean over each row.',
                option="losses",
            )
        if there is not None:
            values = values[there]
        if (rows.datasets < 0).any():
            raise InvalidOptionError(
                "The batch names datasets that the mix does not have.", remedy="Report batches of this dataset."
            )
        return self._judge(rows, values) if len(values) else False

    def _find(
        self, wanted: npt.NDArray[Any], by_id: bool, kept: deque[YieldedRows]
    ) -> tuple[YieldedRows, npt.NDArray[np.bool_]]:
        """Finds the rows with the `wanted` ids or positions, the newest rows first.

        Returns the rows, and a mask of the `wanted` values for which there is a row.
        """
        there = np.zeros(len(wanted), bool)
        parts: list[YieldedRows] = []
        places: list[Ints] = []
        for recent in kept:
            key = (None if recent.ids is None else recent.ids[:, 0]) if by_id else recent.positions
            if key is None or not len(key):
                continue
            open_ = np.flatnonzero(~there)
            rows = recent.where(wanted[open_], key)
            hit = rows >= 0
            if hit.any():
                parts.append(recent.take(rows[hit]))
                places.append(open_[hit])
                there[open_[hit]] = True
            if there.all():
                break
        missing = int((~there).sum())
        if missing and not self.unknown:
            log.warning(
                "%d reported ids are not among the last samples of this process, so their losses are ignored. "
                "report(batch, losses) needs no ids.",
                missing,
            )
        self.unknown += missing
        if not parts:
            none = np.zeros(0, np.int64)
            return YieldedRows(none, none, None), there
        order = np.argsort(np.concatenate(places), kind="stable")
        return _joined(parts).take(order), there

    def _judge(self, rows: YieldedRows, losses: Floats) -> bool:
        scores = self._windows.score(rows.datasets, losses)
        finite = np.isfinite(losses)
        self.reports += 1
        one = np.zeros(1, np.int64)
        known = finite & (self._windows.seen[rows.datasets] >= ENOUGH)
        step = np.array([scores[known].mean()]) if known.any() else None
        spike = not finite.all()
        if step is not None:
            if self._steps.seen[0] >= ENOUGH_STEPS:
                deviation = max(self._steps.deviation[0], self._steps.deviation_of_tail(), 0.05)
                limit = self._steps.median[0] + SPIKE * deviation
                spike = spike or bool(step[0] > limit)
                step = np.minimum(step, limit)  # so that a spike does not hide the next one
            self._steps.add(one, step)
        if spike:
            self.spikes += 1
            self._spike = self._rows_of(rows, losses, scores)
        self._windows.add(rows.datasets[finite], losses[finite])
        return spike

    def _rows_of(self, rows: YieldedRows, losses: Floats, scores: Floats) -> list[dict[str, Any]]:
        highest = np.argsort(-scores, kind="stable")[:NAMED].tolist()
        return [
            {
                "dataset": self._names[rows.datasets[row]],
                "id": None if rows.ids is None else rows.ids[row].tobytes(),
                "position": int(rows.positions[row]),
                "loss": float(losses[row]),
                "score": float(scores[row]),
                "median": float(self._windows.median[rows.datasets[row]]),
                "report": self.reports,
            }
            for row in highest
        ]

    def worst(self, count: int) -> list[dict[str, Any]]:
        """Returns the rows of the last spike, with the highest score first. Empty if there was no spike."""
        return [dict(row) for row in self._spike[:count]]

    def losses(self) -> dict[str, dict[str, float]]:
        """Returns, for each dataset with reported losses, their number, their median and their deviation."""
        windows = self._windows
        return {
            name: {
                "rows": int(windows.seen[number]),
                "median": float(windows.median[number]),
                "deviation": float(windows.deviation[number]),
            }
            for number, name in enumerate(self._names)
            if windows.seen[number]
        }


def _floats(losses: Any) -> Floats:
    """Converts losses to one number for each row. The losses are a tensor on any device, an array or a list."""
    if hasattr(losses, "detach"):
        losses = losses.detach().float().cpu().numpy()
    try:
        values = np.asarray(losses, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidOptionError("The losses are not numbers.", remedy="Give a tensor or a list.") from error
    if values.ndim != 1:
        raise InvalidOptionError(
            f"The losses have the shape {list(values.shape)}.",
            remedy='Give one loss per row: reduction="none", then the mean over each row.',
            option="losses",
        )
    return values


def _numbers_to_find(ids: Any) -> tuple[npt.NDArray[Any], bool]:
    """Returns the numbers to look up, and whether they are ids. The numbers are positions, or the first 8 bytes of ids."""
    if hasattr(ids, "detach"):
        ids = ids.detach().cpu().numpy()
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        return ids.astype(np.int64), False
    ids = list(ids)
    if all(type(one) is int for one in ids):
        return np.array(ids, np.int64), False
    raw = b"".join(ids) if all(type(one) is bytes for one in ids) else b"".join(map(id_bytes, ids))
    if len(raw) != ID_BYTES * len(ids):
        raise InvalidOptionError(
            "These are not ids of samples.", remedy='Give batch["id"], or the batch.', option="ids"
        )
    return np.frombuffer(raw, np.uint64).reshape(-1, 2)[:, 0], True
