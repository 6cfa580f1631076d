"""Finds the loaders and frameworks that iterate a dataset, by looking at the call stack."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Found:
    """Who iterates a dataset, as far as the call stack tells."""

    loader_batch: int | None = None
    workers: int = 0
    loader: bool = False
    dispatcher: bool = False  # Accelerate reads everything on one rank and deals it to the others
    stateless: bool = False  # the loader has workers, and nobody asks them how far they are
    ours: bool = False  # it is dataset.loader(), which knows how far its workers are and can begin them again
    shard_group: int = 0  # Accelerate lets each rank read everything and keep its part: samples in a step of all ranks


def _reaches(outer: Any, dataset: object) -> bool:
    for _ in range(6):
        if outer is dataset:
            return True
        outer = getattr(outer, "dataset", None)
        if outer is None:
            return False
    return False


def _objects() -> Iterator[Any]:
    frame = sys._getframe(2)
    for _ in range(80):
        for name in ("self", "loader"):
            if name in frame.f_code.co_varnames and (value := frame.f_locals.get(name)) is not None:
                yield value
        if frame.f_back is None:
            return
        frame = frame.f_back


def iterating(dataset: object) -> Found:
    """The loaders and wrappers in the call stack that stand around `dataset`."""
    data = sys.modules.get("torch.utils.data")
    if data is None:
        return Found()
    loader_batch, workers, loader, dispatcher, group, stateless, ours = None, 0, False, False, 0, False, False
    for value in _objects():
        kind = type(value).__name__
        if kind == "IterableDatasetShard" and _reaches(value, dataset):
            size = getattr(value, "batch_size", 1)
            group = size if getattr(value, "split_batches", False) else size * getattr(value, "num_processes", 1)
        elif kind == "DataLoaderDispatcher" and _reaches(value, dataset):
            dispatcher = True
        elif isinstance(value, data.DataLoader) and not loader and _reaches(value, dataset):
            loader_batch, workers, loader = value.batch_size, value.num_workers, True
            ours = hasattr(value.dataset, "counts_steps")
            counted = hasattr(value, "state_dict") or ours
            stateless = workers > 0 and not counted
    return Found(loader_batch, workers, loader, dispatcher, stateless, ours, group)


def fetcher() -> Any:
    """Lightning's fetcher in the call stack, which holds batches that the loop has not got yet; None without one."""
    return next((value for value in _objects() if type(value).__name__ == "_PrefetchDataFetcher"), None)
