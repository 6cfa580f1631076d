"""Finds out which loaders and frameworks iterate a dataset, by inspecting the call stack."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass(frozen=True)
class CallStack:
    """What the call stack shows about the loaders that iterate a dataset."""

    loader_batch: int | None = None
    workers: int = 0
    loader: bool = False
    dispatcher: bool = False  # whether Accelerate reads all samples on one rank and sends the others their part
    stateless: bool = False  # whether the loader has workers and does not track their positions
    ours: bool = False  # whether the loader is `dataset.loader()`, which tracks its workers and can restart them
    reads_ahead: bool = False  # whether a loader of Accelerate holds a batch that the loop has not received
    # if Accelerate makes each rank read all samples and keep only its own: the number of samples in a step of all ranks
    shard_group: int = 0


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
        if "self" in frame.f_code.co_varnames and (value := frame.f_locals.get("self")) is not None:
            yield value
        if frame.f_back is None:
            return
        frame = frame.f_back


def iterating(dataset: object) -> CallStack:
    """Returns the loaders and wrappers in the call stack that iterate `dataset`."""
    data = sys.modules.get("torch.utils.data")
    if data is None:
        return CallStack()
    loader_batch, workers, loader, dispatcher, group, stateless, ours = None, 0, False, False, 0, False, False
    ahead = False
    for value in _objects():
        kind = type(value).__name__
        ahead |= kind in ("DataLoaderShard", "DataLoaderDispatcher") and _reaches(value, dataset)
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
    return CallStack(loader_batch, workers, loader, dispatcher, stateless, ours, ahead, group)


def starting_workers() -> Any:
    """Returns the iterator in the call stack that starts workers for a DataLoader, or None."""
    return next((value for value in _objects() if type(value).__name__.endswith("MultiProcessingDataLoaderIter")), None)


def loaded_state(iterator: Any) -> Any:
    """Returns the state that a StatefulDataLoader in the call stack gives to the workers of this iterator, or None."""
    loaders = (value for value in _objects() if value is not iterator and hasattr(value, "next_iter_state"))
    state = getattr(next(loaders, None), "next_iter_state", None)
    return state if isinstance(state, Mapping) else None


def counting(dataset: object) -> Any:
    """Returns Accelerate's loader in the call stack that passes on its own count of iterations, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name == "set_epoch":
        frame = frame.f_back
    loader = None if frame is None or frame.f_code.co_name != "__iter__" else frame.f_locals.get("self")
    counts = type(loader).__name__ in ("DataLoaderShard", "DataLoaderDispatcher") and hasattr(loader, "iteration")
    return loader if counts and _reaches(loader, dataset) else None


def fetcher() -> Any:
    """Returns Lightning's fetcher in the call stack, or None. It holds batches that the loop has not received yet."""
    return next((value for value in _objects() if type(value).__name__ == "_PrefetchDataFetcher"), None)
