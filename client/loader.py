"""The loader of a dataset. It is not a torch DataLoader, so that Accelerate does not replace it."""

from __future__ import annotations

import copy
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset

from choline_data.client.making.samples import Batch
from choline_data.client.passing.passes import PassProgress
from choline_data.client.ranks import frameworks
from choline_data.client.readers.watched import WatchedLoader
from choline_data.errors import InvalidOptionError
from choline_data.order.lanes import Lane

if TYPE_CHECKING:
    from choline_data.client.dataset import FirehoseDataset
    from choline_data.client.passing.passes import Pass
    from choline_data.client.telemetry import ReaderMetrics
    from choline_data.order.recipe import Recipe

WORKER_SECONDS = 600.0  # seconds after which a worker that sends nothing is an error


def _as_it_is(batch: Any) -> Any:
    return batch


class _Numbered(IterableDataset):  # type: ignore[misc]
    """Yields pairs: a batch of the dataset, and the position at which the next step of this rank begins."""

    counts_steps = True

    def __init__(self, dataset: FirehoseDataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return _Numbers(self.dataset)


class _Numbers:
    def __init__(self, dataset: FirehoseDataset) -> None:
        self._pass: Pass = dataset._begin()

    def __iter__(self) -> _Numbers:
        return self

    def __next__(self) -> tuple[int, Any]:
        batch = next(self._pass)
        return self._pass.progress.after(), batch


class Loader:
    """Batches for a training loop. Its state can be loaded with any number of workers and ranks.

    `num_workers="auto"` means 2 workers if Python code decodes or transforms samples, and otherwise 0, which is fastest.
    """

    def __init__(
        self,
        dataset: FirehoseDataset,
        *,
        batch_size: int | None = None,
        num_workers: int | str = "auto",
        pin_memory: bool = False,
        multiprocessing_context: str | None = None,
        persistent_workers: bool = False,
        prefetch_factor: int | None = None,
        timeout: float = WORKER_SECONDS,
    ) -> None:
        size_of_dataset = dataset.batch_size or dataset.batch_tokens
        if batch_size is not None and size_of_dataset is not None and dataset.batch_size != batch_size:
            raise InvalidOptionError(
                f"batch_size is {batch_size} here, and the dataset makes batches of {size_of_dataset}.",
                remedy="Set it once.",
            )
        self._original, self._moves = dataset, dataset._standing.moves
        self.dataset = copy.copy(dataset)
        self.dataset.batch_size = batch_size or dataset.batch_size
        if num_workers == "auto":
            num_workers = 2 if dataset._making.needs_python else 0
        if not isinstance(num_workers, int) or num_workers < 0:
            raise InvalidOptionError(f"num_workers is {num_workers!r}.", remedy='Give 0 or more, or "auto".')
        if multiprocessing_context is None and num_workers and dataset.is_remote:
            multiprocessing_context = "forkserver"  # gRPC does not guarantee that fork is safe
        self.num_workers = num_workers
        self._loader = WatchedLoader(
            _Numbered(self.dataset),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=num_workers,
            pin_memory=pin_memory,
            multiprocessing_context=multiprocessing_context if num_workers else None,
            persistent_workers=persistent_workers and num_workers > 0,
            prefetch_factor=prefetch_factor if num_workers else None,
            timeout=timeout if num_workers else 0,
        )
        self._state = self.dataset.state_dict()
        self._steps: weakref.ref[_Steps] | None = None  # the iterator of the running loop
        # what `_what_workers_know` returned at the end of the last complete pass
        self._ended_with: tuple[object, ...] | None = None

    @property
    def batch_size(self) -> int | None:
        """The number of samples in a batch of this rank."""
        return self.dataset.batch_size

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        if self._moves != self._original._standing.moves:
            raise InvalidOptionError(
                "The dataset was moved after its loader was made, and the loader has a position of its own.",
                remedy="Call load_state_dict or set_epoch of the loader, or move the dataset before you call loader().",
            )
        # The dataset in this process does not advance. The loader counts the positions of its copies in the workers.
        self._continue_endless()
        start = self.dataset.state_dict()
        self._state = start
        if self._ended_with != self._what_workers_know():
            # Persistent workers would read the old stream, so they are replaced by new ones.
            self._loader._iterator = None
        self._ended_with = None
        self.dataset._standing.placed_by = ""
        steps = _Steps(self, iter(self._loader), start)
        self._steps = weakref.ref(steps)
        return steps

    def _continue_endless(self) -> None:
        """If the loop left an endless stream, moves the dataset to the end of the last batch that the loop received."""
        if self.dataset.length is None and self.dataset._standing.was_left:
            self.dataset._standing.go_to(self._state["position"], self._state["epoch"])

    def _what_workers_know(self) -> tuple[object, ...]:
        """Returns the values that the workers were started with and that determine the next pass. Persistent workers do
        not notice when such a value changes.
        """
        dataset = self.dataset
        place = dataset._standing.start, dataset._standing.epoch
        return dataset.recipe, dataset._reshuffled, dataset._bans.ids, dataset.batch_size, place

    def state_dict(self) -> dict[str, Any]:
        """Returns the position after the last batch that the loop received, as a new flat JSON dict."""
        return {**self._state, **self.dataset._lasting_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Moves to the position at which `state` was taken. The number of ranks and workers may be different now."""
        self.dataset.load_state_dict(state)
        self._state = self.dataset.state_dict()

    @property
    def drop_last(self) -> bool:
        """Raises AttributeError, as if a Loader had no such attribute. Accelerate's `skip_first_batches` reads this
        attribute, and would then build a DataLoader of the dataset.
        """
        raise AttributeError(
            "A loader of this dataset has no drop_last. In place of accelerate.skip_first_batches(loader, n), call "
            "loader.skip(n)."
        )

    def skip(self, steps: int) -> None:
        """Continues as if each rank had already received its next `steps` batches."""
        running = None if self._steps is None else self._steps()
        if running is not None:
            running.skip(steps)
            return
        self.dataset.load_state_dict(self.state_dict())
        self.dataset.skip(steps)
        self._state = self.dataset.state_dict()

    def report(self, ids: Any, losses: Any) -> bool:
        """Records the loss of each row of a batch: see `FirehoseDataset.report`."""
        return self.dataset.report(ids, losses)

    def outliers(self, count: int = 10) -> list[dict[str, Any]]:
        """Returns the rows of the last loss spike, at most `count` of them: see `FirehoseDataset.outliers`."""
        return self.dataset.outliers(count)

    def ban(self, ids: Iterable[object]) -> None:
        """Leaves out the samples with these ids from the next batch on. Workers restart at that batch."""
        self.dataset.ban(ids)

    def stats(self) -> dict[str, Any]:
        """Returns what this process received in this pass, and how many samples of each source all ranks received."""
        from choline_data.client import telemetry

        running = None if self._steps is None else self._steps()
        progress = self.dataset._standing.progress if running is None or not self.num_workers else running.progress
        return telemetry.stats(self.dataset, progress, self._state["position"])

    def progress(self) -> dict[str, str]:
        """Returns the statistics as a few short strings, for `bar.set_postfix(loader.progress())`."""
        from choline_data.client import telemetry

        return telemetry.postfix(self.stats())

    def metrics(self, port: int | None = None, host: str = "127.0.0.1") -> ReaderMetrics:
        """Returns a Prometheus collector of the statistics: see `FirehoseDataset.metrics`."""
        return self.dataset.metrics(port, host, of=self)

    def change_mix(self, mix: object, *, at: int | None = None, until: int | None = None, steps: int = 16) -> Recipe:
        """Changes the mix at the loop's position: see `FirehoseDataset.change_mix`.

        Raises InvalidOptionError while workers read ahead.
        """
        loop = None if self._steps is None else self._steps()
        if self._loader.num_workers and (self._loader.persistent_workers or (loop is not None and not loop.finished)):
            raise InvalidOptionError(
                "The loader's workers have already read ahead with the old mix.",
                remedy="Leave the loop, load_state_dict(state_dict()), change the mix, and loop again; without "
                "persistent_workers.",
                option="num_workers",
            )
        if self._loader.num_workers:
            self._continue_endless()
            self.dataset._standing.forget_pass()
        recipe = self.dataset.change_mix(mix, at=at, until=until, steps=steps, read_to=self._state["position"])
        self._state = {**self._state, **self.dataset._lasting_state()}
        return recipe

    def set_epoch(self, epoch: int) -> None:
        """Makes the next loop pass number `epoch`: see `FirehoseDataset.set_epoch`."""
        before = self.dataset._standing.epoch
        self.dataset.set_epoch(epoch)
        if self.dataset._standing.epoch != before:
            self._state = self.dataset.state_dict()


class _Steps:
    def __init__(self, loader: Loader, batches: Iterator[tuple[int, Any]], start: dict[str, Any]) -> None:
        self._loader = loader
        self._batches = batches
        self._start = start
        self.finished = False
        # A weak reference, because the fetcher refers to this object. In a reference cycle, the workers would only end
        # at a garbage collection.
        self._fetcher = None if (fetcher := frameworks.fetcher()) is None else weakref.ref(fetcher)
        # for each batch that was requested, the position after it
        self._after: deque[int] = deque([start["position"]], maxlen=16)
        # the progress of a pass in which this process counts what the workers delivered
        self.progress = PassProgress(Lane(0), 0, 0, None)
        loader.dataset._bans.watch(self)

    def __iter__(self) -> _Steps:
        return self

    def skip(self, steps: int) -> None:
        """Restarts the workers `steps` steps after the last requested batch."""
        loader, dataset = self._loader, self._loader.dataset
        if not steps and not loader.num_workers:
            return  # Without workers, the pass in this process applies the bans itself.
        before = dataset.state_dict()
        dataset.seek(self._after[-1])
        dataset.skip(steps)
        after = dataset.state_dict()
        self._batches = iter(())  # dropping the iterator ends its workers
        loader._loader._iterator = None  # this ends persistent workers too
        if after["epoch"] == before["epoch"]:
            self._batches = iter(loader._loader)
            self._after[-1] = after["position"]
        loader._state = after
        dataset._standing.start, dataset._standing.epoch = before["position"], before["epoch"]

    def _count(self, batch: Any, waited: float) -> None:
        self.progress.waited += waited
        if isinstance(batch, Mapping) and "position" in batch and "dataset" in batch:
            self.progress.rows += len(batch["position"])
            self.progress.size += batch.nbytes if isinstance(batch, Batch) else 0
            self._loader.dataset.feedback.saw(batch)

    def __next__(self) -> Any:
        fetcher = None if self._fetcher is None else self._fetcher()
        prefetched = 0 if fetcher is None else len(fetcher.batches)
        began = time.monotonic()
        try:
            position, batch = next(self._batches)
        except StopIteration:
            self.finished = True
            self._loader.dataset._standing.go_to(0, self._start["epoch"] + 1)
            self._loader._state = self._loader.dataset.state_dict()
            self._loader._ended_with = self._loader._what_workers_know()
            raise
        # Without a length, Lightning requests a batch before it delivers the previous one. The batches that it still
        # holds were not used for training yet.
        delivered_to = (
            position
            if fetcher is None or getattr(fetcher, "length", None) is not None
            else self._after[-1 - prefetched]
        )
        self._after.append(position)
        self._loader._state = {**self._start, **self._loader.dataset._lasting_state(), "position": delivered_to}
        if self._loader.num_workers:
            self._count(batch, time.monotonic() - began)
        return batch
