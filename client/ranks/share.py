"""The share of the stream that a rank, a worker or a loader process reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

from choline_data.client.ranks import frameworks
from choline_data.errors import InvalidOptionError
from choline_data.order.lanes import Lane


@dataclass(frozen=True)
class Share:
    """Which part of the stream a process reads: the ranks, the workers, and whether an outer loader makes the batches."""

    rank: int
    world: int
    batch: int | None
    worker: int = 0
    workers: int = 1
    loader_batch: int | None = None

    @property
    def group(self) -> int:
        """The distance in positions between two consecutive batches of a rank."""
        return self.world * (self.batch or self.loader_batch or 1)

    @property
    def of_rank(self) -> Share:
        """Returns the share of all workers of this rank together."""
        return replace(self, worker=0, workers=1)

    def lane(self, start: int) -> tuple[Lane, int]:
        """Returns the positions that this process reads (its lane), and the offset of its rank in a step.

        All ranks and workers begin at `start`.
        """
        place = {"rank": self.rank, "world": self.world, "worker": self.worker, "workers": self.workers}
        if self.batch is None and self.workers > 1 and (self.loader_batch or 1) > 1:
            return Lane.dealt(start, group=self.loader_batch or 1, **place), self.rank
        batch = self.batch or 1
        return Lane.of(start, batch=batch, **place), self.rank * batch

    def end(self, start: int, length: int | None, last: str) -> int | None:
        """Returns the position at which a pass from `start` ends: `length`, or the end of a complete step."""
        if length is None or last == "short":
            return length
        step = self.world * (self.batch or 1)
        steps, rest = divmod(max(length - start, 0), step)
        return start + (steps + (1 if rest and last == "wrap" else 0)) * step


def share_of(
    found: frameworks.CallStack,
    expected: frameworks.CallStack | None,
    rank: tuple[int, int],
    user_set_rank: bool,
    batch: int | None,
) -> Share:
    """Returns the share of this process, which may be a worker of a DataLoader. Accelerate may divide the samples once
    more.

    `user_set_rank` says whether the user set the rank.
    """
    import torch.utils.data

    info = torch.utils.data.get_worker_info()
    outside = found if info is None else expected or frameworks.CallStack()
    blind = found.dispatcher or outside.dispatcher or found.shard_group or outside.shard_group
    own, world = rank
    if blind:
        if user_set_rank and world > 1:
            raise InvalidOptionError(
                "This dataset has already split the samples over the ranks. Accelerate would split them again, and rows would "
                "be lost.",
                remedy="Leave rank and world_size unset, or use dataset.loader() in place of accelerator.prepare().",
                option="rank",
            )
        own, world = 0, 1
    if batch is not None and outside.loader and outside.loader_batch is not None:
        raise InvalidOptionError(
            f"The dataset makes batches of {batch}, and the DataLoader would make batches of those.",
            remedy="Give the DataLoader batch_size=None, or use dataset.loader().",
            option="batch_size",
        )
    if info is None:
        return Share(own, world, batch)
    loader_batch = found.shard_group or outside.loader_batch
    return Share(own, world, batch, info.id, info.num_workers, loader_batch if batch is None else None)
