"""The current position of a dataset: where its next pass begins, and the pass that is running."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from choline_data.client.passing.passes import Pass, PassProgress
from choline_data.client.passing.shared_place import SharedPlace, at_end
from choline_data.client.ranks.found import find_rank
from choline_data.client.ranks.frameworks import CallStack, starting_workers
from choline_data.client.ranks.share import Share
from choline_data.client.state import place_in
from choline_data.errors import InvalidOptionError, OutOfRangeError


def in_worker() -> bool:
    """Whether this process is a worker of a DataLoader."""
    import torch.utils.data

    return torch.utils.data.get_worker_info() is not None


def begin_pass(begin: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Calls `begin` and returns its pass.

    In a worker, an error is raised only at the first sample, because torch does not forward earlier errors.
    """
    try:
        return begin()
    except InvalidOptionError as error:
        if not in_worker():
            raise
        return map(_raise_later, [error])


def _raise_later(error: Exception) -> NoReturn:
    raise error


@dataclass
class Standing:
    """The current position of a dataset: where its next pass begins, and the pass that is running.

    No other object stores the position. A loader has its own copy of this object.
    """

    start: int = 0  # the position at which the next pass begins
    epoch: int = 0
    # in a DataLoader worker: the loaded state of this worker, until it iterates
    worker_state: Mapping[str, Any] | None = None
    progress: PassProgress | None = None
    live: tuple[weakref.ref[Pass], Share] | None = None
    expected: CallStack | None = None  # the loader that starts workers for this dataset
    parent_rank: tuple[int, int] | None = None  # the rank and world size of the process that starts the workers
    unknown: bool = False  # whether workers read the dataset while their position is not known
    in_workers: bool = False
    foreign_workers: bool = False  # whether the workers belong to a loader other than `dataset.loader()`
    reads_ahead: bool = False  # whether the loader of the running pass holds a batch that the loop has not received
    started_by: weakref.ref[Any] | None = None  # the iterator that started the workers
    # whether the loop left an iteration with another loader's workers, and then began another one
    left_unknown: bool = False
    # what set the start: "state", "seek", or "" after a pass began or ended
    placed_by: str = ""
    moves: int = 0  # how often the user has set the start or the pass
    shared: SharedPlace | None = None  # the place that workers of another loader read when a pass begins
    persists: bool = False  # in a worker: whether it has begun a pass

    def copy_without_pass(self, *, endless: bool) -> Standing:
        """Returns a copy without the running pass, because a pass belongs to the process and the object that began it."""
        left = endless and self.progress is not None and not self.progress.finished
        start = self.place()["position"] if left else self.start
        shared = None if starting_workers() is None else self.shared
        return replace(self, start=start, progress=None, live=None, started_by=None, shared=shared)

    def go_to(self, position: int, epoch: int | None = None, length: int | None = None) -> None:
        """Makes the next pass begin at this position. At the end of the stream (`length`), the next pass begins at 0."""
        self.worker_state = None
        epoch = self.epoch if epoch is None else epoch
        ended = length is not None and position >= length
        self.move_to(0 if ended else position, epoch + ended)
        self.forget_pass()

    def move_to(self, position: int, epoch: int) -> None:
        """Sets the position and the number of the next pass, also for workers that persist."""
        self.start, self.epoch, self.placed_by = position, epoch, ""
        if self.shared is not None and not in_worker():
            self.shared.put(position, epoch)

    def set_epoch(self, epoch: int, counter: Any) -> None:
        """Makes the next pass the one with number `epoch`.

        `counter` is Accelerate's loader, if `epoch` is that loader's own count. Raises InvalidOptionError if a state of
        another pass was loaded and no pass has begun since then.
        """
        if epoch == self.epoch:
            return
        if self.placed_by != "state":
            self.moves += 1
            self.go_to(self.start if self.placed_by == "seek" else 0, epoch)
        elif counter is not None:
            counter.iteration = self.epoch
        else:
            raise InvalidOptionError(
                f"set_epoch({epoch}) would leave pass {self.epoch}, in which the loaded state lies.",
                remedy=f"Begin with epoch {self.epoch}, or call seek(0) first to leave that pass.",
                option="epoch",
            )

    def seek(self, position: int, length: int | None) -> None:
        """Makes the next pass begin at this position.

        Raises OutOfRangeError if a stream of this length does not have the position.
        """
        if type(position) is not int or position < 0 or (length is not None and position > length):
            raise OutOfRangeError(
                f"Position {position} is not in the stream.",
                remedy=f"It has positions 0 to {length - 1}." if length else "Positions begin at 0.",
            )
        self.go_to(position)
        self.set_by("seek")

    def set_by(self, call: str) -> None:
        """Records that the user has set the start of the next pass, by "seek" or by loading a "state"."""
        self.placed_by = call
        self.moves += 1

    def forget_pass(self) -> None:
        """Records that no pass is running, here or in workers."""
        self.progress, self.live = None, None
        self.unknown = self.in_workers = self.foreign_workers = self.left_unknown = False
        self.reads_ahead, self.started_by = False, None

    def running(self) -> Pass | None:
        """Returns the pass that is running in this process, or None."""
        live_pass = None if self.live is None else self.live[0]()
        return (
            live_pass
            if live_pass is not None and live_pass.progress is self.progress and not live_pass.progress.finished
            else None
        )

    def expect(self, loader: CallStack, rank: tuple[int, int] | None) -> Any:
        """Records which loader starts workers for this dataset, and the rank of this process.

        If another loader than ours starts workers for the first time, returns its iterator.
        """
        if not (loader.loader or loader.shard_group or loader.dispatcher):
            return None
        self.expected = loader
        self.parent_rank = rank or find_rank()
        iterator = starting_workers()
        another = self.started_by is None or self.started_by() is not iterator
        self.left_unknown |= self.foreign_workers and another
        self.started_by = None if iterator is None else weakref.ref(iterator)
        self.unknown, self.in_workers = loader.stateless, loader.workers > 0
        self.foreign_workers = self.in_workers and not loader.ours
        return iterator if self.foreign_workers and another else None

    def share(self, iterator: Any, state: Mapping[str, Any] | None) -> None:
        """Lets the workers that `iterator` starts read the position of the next pass, and counts the passes that its loop
        completes.

        `state` is the state that the iterator gives to its workers.
        """
        if state is not None:
            self.start, self.epoch = place_in(state, self.start)
        self.placed_by = ""
        self.shared = SharedPlace(self.start, self.epoch)
        myself = weakref.ref(self)

        def ended() -> None:
            standing = myself()
            if standing is not None and (standing.progress is None or standing.progress.finished):
                standing.move_to(0, standing.epoch + 1)

        at_end(iterator, ended)

    def outdate(self) -> None:
        """Makes workers that persist refuse to begin another pass, because the mix or the bans have changed."""
        if self.shared is not None and not in_worker():
            self.shared.outdate()

    def follow_parent(self) -> None:
        """In a worker that persists: takes the position and the number of the next pass from the parent process."""
        if self.shared is not None and in_worker():
            if self.persists and self.shared.outdated:
                raise InvalidOptionError(
                    "The mix, the bans or the state of the dataset changed, and workers that persist have the old ones.",
                    remedy="Create the DataLoader again, or use dataset.loader().",
                    option="persistent_workers",
                )
            if self.persists and self.worker_state is None:
                self.start, self.epoch = self.shared.get()
            self.persists = True

    def rank(self, chosen: tuple[int, int] | None) -> tuple[int, int]:
        """Returns the rank and the world size.

        A worker has no process group, so it uses the rank of the process that started it.
        """
        return chosen or (self.parent_rank if self.parent_rank and in_worker() else find_rank())

    def check_known(self) -> None:
        """Raises InvalidOptionError if workers read the dataset and their position is not known."""
        if self.unknown and not in_worker():
            raise InvalidOptionError(
                "Workers of a DataLoader read this dataset, and this process does not know their position.",
                remedy="Use dataset.loader(), whose state_dict() includes its workers, or torchdata's StatefulDataLoader.",
                option="num_workers",
            )

    def check_reachable(self, call: str) -> None:
        """Raises InvalidOptionError if workers of another loader read, because `call` would not reach them."""
        if self.foreign_workers or in_worker():
            raise InvalidOptionError(
                f"Workers of a DataLoader read this dataset, and {call}() would not reach them.",
                remedy="Use dataset.loader(), or load the loader's state into the dataset, call it then, and iterate again.",
                option="num_workers",
            )

    def check_unread(self) -> None:
        """Raises InvalidOptionError if workers read ahead, because they use the mix that they started with."""
        if self.in_workers or in_worker():
            raise InvalidOptionError(
                "Workers of a DataLoader have already read ahead with the old mix.",
                remedy="Leave the loop, dataset.load_state_dict(loader.state_dict()), change the mix, and loop again.",
                option="num_workers",
            )

    @property
    def was_left(self) -> bool:
        """Whether an iteration began, here or in workers, and did not reach its end."""
        return self.in_workers or (self.progress is not None and not self.progress.finished)

    def continue_endless(self) -> None:
        """Makes the next pass over an endless stream begin at the position where the last pass was left.

        Raises InvalidOptionError if another loader read the last pass ahead, because it does not report its position.
        """
        left = self.progress is not None and not self.progress.finished
        if self.left_unknown or (left if in_worker() else self.foreign_workers or (left and self.reads_ahead)):
            raise InvalidOptionError(
                "This stream has no end. The last iteration over it used a DataLoader with workers or Accelerate, "
                "and was left. "
                "The next iteration cannot continue there, because the position of the loop is not known.",
                remedy="Use dataset.loader(), which continues. Or call dataset.seek(position) before each iteration.",
                option="num_workers",
            )
        self.keep_place()

    def keep_place(self) -> None:
        """If a pass runs in this process, makes the next pass begin where it is now."""
        if self.progress is not None and not self.progress.finished:
            place = self.place()
            self.go_to(place["position"], place["epoch"])

    def take_worker_state(self, share: Share) -> Mapping[str, Any] | None:
        """Returns the state that was loaded for this worker, and removes it. Raises InvalidOptionError if it belongs to
        another worker.
        """
        state, self.worker_state = self.worker_state, None
        if state is not None and (state.get("workers"), state.get("worker")) != (share.workers, share.worker):
            raise InvalidOptionError(
                f"This is the state of worker {state.get('worker')} of {state.get('workers')}.",
                remedy="Load the whole state of the loader into the dataset: dataset.load_state_dict(loader_state).",
            )
        return state

    def first_progress(
        self, share: Share, state: Mapping[str, Any] | None, length: int | None, last_step: str
    ) -> PassProgress:
        """Returns the progress of a new pass.

        The pass begins at the current position, or at the position in this worker's state.
        """
        if state is None:
            lane, offset = share.lane(self.start)
        else:
            first_worker = Share(share.rank, share.world, share.batch, 0, share.workers, share.loader_batch)
            lane, offset = first_worker.lane(state["position"])
        return PassProgress(
            lane,
            offset,
            share.group,
            share.end(self.start, length, last_step),
            self.epoch,
            worker=share.worker,
            workers=share.workers,
            split="samples" if share.batch is None and share.workers > 1 and share.loader_batch is None else "",
            in_groups=share.batch is None and share.workers > 1 and (share.loader_batch or 1) > 1,
            given=0 if state is None else int(state.get("within", 0)),
        )

    def place(self) -> dict[str, Any]:
        """Returns the part of a state that has the position and the number of the pass. In a worker, it also has the
        worker's number.
        """
        progress = self.progress
        place: dict[str, Any] = {"position": self.start, "epoch": self.epoch, "step": 0}
        if progress is None:
            return place
        place["step"] = progress.group
        if progress.workers > 1 or in_worker():
            place.update(worker=progress.worker, workers=progress.workers, position=progress.position())
            place["epoch"] = progress.epoch
            if progress.in_groups and not progress.finished:
                # If samples were left out, a batch may end inside a group. The lane then begins at the start of this group.
                place["within"] = progress.index % progress.lane.block
                place["position"] = progress.lane.begin(progress.index) - progress.offset
            if progress.split:
                place["split"] = progress.split
            if (skip := getattr(progress, "skip", None)) is not None:
                place["skip"] = skip
        elif not progress.finished:
            place["position"], place["epoch"] = progress.position(), progress.epoch
        return place
