"""What training tells a dataset and asks of it: losses, bans, another mix, steps to go past, figures of what was read."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from choline_data.client import mixing
from choline_data.client.bans import Bans
from choline_data.client.outliers import Outliers
from choline_data.client.ranks import find_rank
from choline_data.client.reading import Described
from choline_data.errors import InvalidOptionError
from choline_data.recipe import Recipe

if TYPE_CHECKING:
    from choline_data.client.connection import Endpoint
    from choline_data.client.loader import Loader
    from choline_data.client.passes import Pass, Progress, Share
    from choline_data.client.telemetry import Metrics


class Feedback:
    """The part of a dataset that training talks to while it iterates."""

    run: str | None
    feedback: Outliers
    _bans: Bans
    _recipe: Recipe
    _start: int
    _epoch: int
    _progress: Progress | None
    _live: tuple[weakref.ref[Pass], Share] | None
    _begun_elsewhere: bool
    _in_workers: bool
    _origin: mixing.Origin
    _home: str
    _endpoint: Endpoint | None
    _rank: tuple[int, int] | None

    if TYPE_CHECKING:

        @property
        def recipe(self) -> Recipe: ...
        @property
        def length(self) -> int | None: ...
        @property
        def epoch(self) -> int: ...
        def describe(self) -> Described: ...
        def begin(self) -> Pass: ...
        def rewind(self, epoch: int) -> None: ...
        def _state(self) -> dict[str, Any]: ...
        def _follow(self, recipe: Recipe) -> None: ...

    def skip(self, steps: int) -> None:
        """Goes on as if the next `steps` batches (without a batch size, samples) had been given to each rank."""
        if type(steps) is not int or steps < 0:
            raise InvalidOptionError(f"steps is {steps!r}.", remedy="Give a whole number.", option="steps")
        self._check_here("skip")
        running = None if self._live is None else self._live[0]()
        if running is not None and running.progress is self._progress and not self._progress.finished:
            running.skip(steps)
            return
        state = self._state()
        self._start, self._epoch = state["position"], state["epoch"]
        following = self.begin()
        following.skip(steps)
        position, epoch = following.progress.position(), self._epoch
        if self.length is not None and position >= self.length:
            position, epoch = 0, epoch + 1
        self.rewind(epoch)
        self._start = position

    def change_mix(
        self, mix: object, *, at: int | None = None, until: int | None = None, steps: int = 16, read_to: int = 0
    ) -> Recipe:
        """Another mix from the next sample on, or from position `at`; in `steps` steps up to `until`, where that is given.

        Every source goes on from where it stands. The loop that is under way, the state and `explain` follow; ranks all
        have to do it alike, and at the same step. Returns the recipe, which makes the same stream again.
        """
        if self._in_workers or torch.utils.data.get_worker_info() is not None:
            raise InvalidOptionError(
                "Workers of a DataLoader read this dataset ahead, with the mix that they were started with.",
                remedy="Leave the loop, dataset.load_state_dict(loader.state_dict()), change the mix, and loop again.",
                option="num_workers",
            )
        recipe = mixing.change(
            self._recipe,
            mix,
            self._origin,
            home=self._home,
            endpoint=self._endpoint,
            position=max(self._state()["position"], read_to),
            at=at,
            until=until,
            steps=steps,
        )
        self._follow(recipe)
        return recipe

    # --- What training says

    def report(self, ids: Any, losses: Any) -> bool:
        """Takes in the loss of each row of a batch, named by its id, its position or the batch; whether it is a spike."""
        return self.feedback.report(ids, losses)

    def outliers(self, count: int = 10) -> list[dict[str, Any]]:
        """The rows of the last spike that stand out most from their own dataset, worst first."""
        return self.feedback.worst(count)

    def ban(self, ids: Iterable[object]) -> None:
        """Leaves these samples out from here on, in every epoch; the state remembers it.

        Their positions stay: a batch is shorter by them, and a step is never empty. Call it with the same ids on all ranks.
        """
        self._check_here("ban")
        if "id" not in self.describe().schema.names:
            raise InvalidOptionError(
                f"Rows of the view {self._recipe.view!r} hold several samples, and have no id.",
                remedy="Leave the samples out with `where=`, or go past the rows by skip(steps).",
                option="view",
            )
        self._bans.add(ids)

    def unban(self) -> None:
        """Leaves out nothing any more."""
        self._check_here("unban")
        self._bans.lift()

    @property
    def banned(self) -> list[bytes]:
        """The ids of the samples that are left out."""
        return list(self._bans.ids)

    def _check_here(self, what: str) -> None:
        if self._begun_elsewhere or torch.utils.data.get_worker_info() is not None:
            raise InvalidOptionError(
                f"Workers of a DataLoader read this dataset, and {what}() would not reach them.",
                remedy="Use dataset.loader(), or load the loader's state into the dataset, call it then, and iterate again.",
                option="num_workers",
            )

    # --- What it has done

    def stats(self) -> dict[str, Any]:
        """What this process has read in this pass, and what all ranks were given by source; see docs/training.md."""
        from choline_data.client import telemetry

        return telemetry.stats(self, self._progress, self._state()["position"])

    def progress(self) -> dict[str, str]:
        """The same in a few short words: `bar.set_postfix(dataset.progress())`."""
        from choline_data.client import telemetry

        return telemetry.postfix(self.stats())

    def metrics(self, port: int | None = None, host: str = "127.0.0.1", *, of: Loader | None = None) -> Metrics:
        """The same for Prometheus: a collector, which answers scrapes where a port is given, 0 for any that is free."""
        from choline_data.client import telemetry

        return telemetry.metrics_of(of or self, port, host, rank=(self._rank or find_rank())[0], run=self.run)
