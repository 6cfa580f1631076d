"""FirehoseDataset: a torch IterableDataset over any mix, with resume that is exact to the sample."""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset

from choline_data.client import state as states
from choline_data.client import telemetry
from choline_data.client.batching import find_batch_size
from choline_data.client.feedback import mixing
from choline_data.client.feedback.bans import Bans
from choline_data.client.feedback.outliers import Outliers
from choline_data.client.loader import Loader
from choline_data.client.looking_ahead import explained, peeked
from choline_data.client.making.maker import Maker
from choline_data.client.maps import FirehoseMap
from choline_data.client.options import MakingOptions, ReaderOptions, StreamOptions
from choline_data.client.passing.budget import BudgetPass, progress_of
from choline_data.client.passing.passes import KEPT_BYTES, Pass, PassProgress
from choline_data.client.passing.standing import Standing, begin_pass
from choline_data.client.ranks import frameworks
from choline_data.client.ranks.found import find_rank
from choline_data.client.ranks.share import Share, share_of
from choline_data.client.readers import forks
from choline_data.client.readers.reader import Reader, StreamDescription
from choline_data.client.sample_source import PlaceOptions, SampleSource
from choline_data.client.telemetry import ReaderMetrics
from choline_data.errors import InvalidOptionError
from choline_data.order.recipe import Recipe
from choline_data.process.memory import keep_freed
from choline_data.tokens.trainer_formats import TokenFormat

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class FirehoseDataset(IterableDataset):  # type: ignore[misc]
    """The samples of a mix, split over ranks and workers, read from a local home (`server=None`) or from servers.

    Iteration begins at position 0, or at the position that `load_state_dict` or `seek` set. After a complete pass, the next pass
    begins at 0, with an order of its own. The next iteration over an endless stream begins where the loop left the last iteration.
    """

    def __init__(
        self,
        mix: object,
        *,
        server: str | Sequence[str] | None = None,
        view: str = "samples",
        seed: int = 0,
        shuffle: bool = True,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        format: str | TokenFormat | None = None,
        tokenizer: Any = None,
        seq_len: int | None = None,
        size: int | Sequence[int] | None = None,
        rate: int | None = None,
        packing: str | None = None,
        boundary: str | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        mesh: DeviceMesh | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        repeat: bool = True,
        reshuffle: bool | None = None,
        max_samples: int | None = None,
        last_batch: str = "short",
        unit: str | None = None,
        on_exhausted: str = "renormalize",
        source_batches: bool | int = False,
        weights: Sequence[object] | None = None,
        probabilities: Sequence[object] | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        decode: str | Callable[[bytes, str], Any] | None = None,
        on_error: str = "raise",
        token: str | None = None,
        tls: bool | str | Mapping[str, str] | None = None,
        home: str | os.PathLike[str] | None = None,
        run: str | None = None,
        prefetch_bytes: int | None = None,
        retry_seconds: float | None = None,
        stall_seconds: float | None = None,
    ) -> None:
        super().__init__()
        keep_freed(KEPT_BYTES)  # This must run before any thread starts.
        making = {"size": size, "rate": rate, "decode": decode, "transform": transform, "on_error": on_error}
        packed = {"tokenizer": tokenizer, "seq_len": seq_len, "packing": packing, "boundary": boundary}
        self._making = MakingOptions.of(format, view, **making, **packed)  # type: ignore[arg-type]
        steps = {"batch_size": batch_size, "batch_tokens": batch_tokens, "last_batch": last_batch}
        self._reading = ReaderOptions.of(rank, world_size, mesh, run=run, view=view, seq_len=seq_len, **steps)  # type: ignore[arg-type]
        settings = {"seed": seed, "shuffle": shuffle, "view": view, "repeat": repeat, "where": where}
        shares = {"weights": weights, "probabilities": probabilities, "unit": unit, "on_exhausted": on_exhausted}
        whole = {"max_samples": max_samples, "reshuffle": reshuffle, "columns": self._making.columns_to_read(columns)}
        self._streamed = StreamOptions.of(mix, tokens=self._making.tokens, **whole, **shares, **settings)  # type: ignore[arg-type]
        waits = {"prefetch_bytes": prefetch_bytes, "retry_seconds": retry_seconds, "stall_seconds": stall_seconds}
        place = PlaceOptions.of(home, server, token=token, tls=tls, **waits)  # type: ignore[arg-type]
        self.run = run
        self.batch_size, self.batch_tokens = self._reading.batch_size, self._reading.batch_tokens
        self.found_batch_size: int | None = None
        self._standing = Standing()
        self._source = SampleSource(place, self._streamed.columns, self._reading.claimant)
        self._bans = Bans()
        self.feedback = Outliers()
        origin = self._streamed.origin
        recipe, described = place.recipe_of(self._streamed.mix, origin.settings, origin.tokens, self._streamed.columns)
        self._follow(mixing.in_batches(recipe, source_batches, self.batch_size), described)
        self._reshuffled = self._streamed.reshuffled(self._recipe, self._length)
        forks.watch_dataset(self)

    def _follow(self, recipe: Recipe, described: StreamDescription | None = None) -> None:
        """Makes the dataset and its running pass continue with this recipe, which a server has described as `described`."""
        self._error = mixing.exhaustion(recipe, self._streamed.max_samples)
        self._source.follow(recipe, described)
        self._standing.outdate()
        self._recipe = recipe
        self._lasting = states.LastingState()
        self._length = self.describe().length
        self.feedback.follow(self.describe().datasets)
        live = self._standing.live
        running = None if live is None else live[0]()
        if live is not None and running is not None and not running.progress.finished:
            running.progress.end = live[1].end(self._standing.start, self.length, self._last_step)
            running.read_on(self._reader_for_pass(running.progress.epoch), self._maker(), **self._pass_options())

    # --- Properties

    @property
    def recipe(self) -> Recipe:
        """The recipe: everything that determines the stream."""
        return self._recipe

    @property
    def length(self) -> int | None:
        """The number of positions in the stream, for all ranks together. None if the stream has no end."""
        most = self._streamed.max_samples
        return self._length if most is None else most if self._length is None else min(self._length, most)

    @property
    def epoch(self) -> int:
        """The number of the current pass. The first pass has number 0."""
        return self._standing.epoch

    @property
    def is_remote(self) -> bool:
        """Whether samples come from a server."""
        return self._source.place.endpoint is not None

    @property
    def _last_step(self) -> str:
        """What happens to a last step with too few samples."""
        last = self._reading.last_batch
        return "drop" if self._error is not None and last == "wrap" else last

    def describe(self) -> StreamDescription:
        """Returns a description of the stream: its recipe, Arrow schema, dataset names and length."""
        return self._source.describe()

    @property
    def features(self) -> list[str]:
        """The names of the fields of a sample."""
        return self._making.fields(self.describe().schema.names)

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError(
                "This FirehoseDataset has no end: set max_samples, or repeat=False, for one that has a length."
            )
        if self.batch_tokens is not None:
            raise TypeError("With batch_tokens, the number of batches is not known before they are made.")
        share, start = self._share().of_rank, self._standing.start
        count = share.lane(start)[0].below(share.end(start, self.length, self._last_step) or 0)
        return count if self.batch_size is None else -(-count // self.batch_size)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        where = self._source.place
        sources = ", ".join(s.name for s in self._recipe.sources[:8])
        return f"FirehoseDataset({sources}; {self._recipe.view}, recipe {self._recipe.digest[:12]}…, from {where})"

    # --- Iterating

    def _share_here(self) -> Share:
        return Share(*(self._reading.rank or find_rank()), self.batch_size)

    def _share(self) -> Share:
        chosen = self._reading.rank
        batch = self.batch_size or (None if self.batch_tokens is None else 1)
        rank = self._standing.rank(chosen)
        return share_of(frameworks.iterating(self), self._standing.expected, rank, chosen is not None, batch)

    def __iter__(self) -> Iterator[Any]:
        fetcher = frameworks.fetcher()
        if fetcher is not None and getattr(fetcher, "length", None) is None and not frameworks.iterating(self).loader:
            raise InvalidOptionError(
                "Lightning reads one batch ahead, and its checkpoint would lose that batch.",
                remedy="Pass dataset.loader() to Lightning, not the dataset.",
            )
        return begin_pass(self._begin)

    def _begin(self) -> Pass:
        """Starts a pass at the current position."""
        share, standing = self._share(), self._standing
        standing.follow_parent()
        standing.placed_by = ""
        if self.length is None:
            standing.continue_endless()
        mixing.check_batches(self._recipe, standing.start, share.batch, self.batch_tokens)
        state = standing.take_worker_state(share)
        if self.batch_tokens is not None:
            budgeted = progress_of(share, standing.start, self.length, standing.epoch, state)
            return self._pass(BudgetPass, budgeted, share, share=share, budget=self.batch_tokens, last=self._last_step)
        progress = standing.first_progress(share, state, self.length, self._last_step)
        return self._pass(Pass, progress, share, batch=self.batch_size)

    def _pass(self, kind: type[Pass], progress: PassProgress, whole: Share, **options: Any) -> Pass:
        standing = self._standing
        standing.forget_pass()
        standing.progress, standing.reads_ahead = progress, frameworks.iterating(self).reads_ahead
        myself = weakref.ref(self)

        def done() -> None:
            dataset = myself()
            if dataset is not None and dataset._standing.progress is progress:
                if dataset._error is None:
                    standing.move_to(0, progress.epoch + 1)
                else:  # The position stays at the end until the mix changes.
                    standing.move_to(dataset._length or 0, progress.epoch)

        other = partial(self._source.reader, self._pass_of(progress.epoch))
        options |= {"bans": self._bans, "outliers": self.feedback, "other": other, "done": done}
        reader = self._reader_for_pass(progress.epoch)
        new_pass = kind(progress, reader, self._maker(), **options, **self._pass_options())
        standing.live = (weakref.ref(new_pass), whole)
        return new_pass

    def _pass_options(self) -> dict[str, Any]:
        return {"length": self.length, "ahead": self._source.place.read_ahead, "error": self._error}

    def _pass_of(self, epoch: int) -> int:
        """Returns the number of the pass whose order this epoch uses. It is 0 if all passes have the same order."""
        return epoch if self._reshuffled else 0

    def _reader_for_pass(self, epoch: int) -> Callable[[], Reader]:
        return self._source.for_pass(self._standing.rank(self._reading.rank)[0], self._pass_of(epoch))

    def _maker(self) -> Maker:
        """Returns the object that converts chunks to samples and batches."""
        return self._making.maker(self.describe().datasets, self._recipe.view)

    def _expect(self, loader: frameworks.CallStack) -> None:
        """Records which loader starts workers for this dataset, and the rank of this process."""
        self._source.settle()
        if loader.loader and self.length is None:
            self._standing.keep_place()
        iterator = self._standing.expect(loader, self._reading.rank)
        if iterator is not None and self.length is not None:
            self._standing.share(iterator, frameworks.loaded_state(iterator))

    def __getstate__(self) -> dict[str, Any]:
        self._expect(frameworks.iterating(self))
        standing = self._standing.copy_without_pass(endless=self.length is None)
        return {**self.__dict__, "_standing": standing, "_source": copy.copy(self._source)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        forks.watch_dataset(self)

    # --- State

    def state_dict(self) -> dict[str, Any]:
        """Returns the position after the last item yielded, as a new flat JSON dict of at most 4 KiB.

        Raises InvalidOptionError while workers of a plain DataLoader read, because their position is not known.
        """
        self._standing.check_known()
        return self._state()

    def _lasting_state(self) -> dict[str, Any]:
        """Returns the part of the state that does not depend on the position: the recipe and the banned samples."""
        return self._lasting.of(self._recipe, self._bans.to_text(), self._reshuffled)

    def _state(self) -> dict[str, Any]:
        place = self._standing.place()
        here = {"position": place.pop("position"), "epoch": place.pop("epoch")}
        run = {} if self.run is None else {"run": self.run}
        return {**self._lasting_state(), **here, **run, "batch_size": self.found_batch_size or 0, **place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Moves to the position at which `state` was taken. The number of ranks and workers may be different now.

        Accepts a state from `state_dict` of a dataset or of a `loader()`, or the whole state of a StatefulDataLoader.
        """
        state = states.flatten(state)
        recipe = states.follow_changes(state, self._recipe)
        if recipe is not self._recipe:
            self._standing.forget_pass()
            self._follow(recipe)
        position, epoch = states.check(state, self._recipe)
        before = self._reshuffled, self._bans.ids
        self._reshuffled = states.reshuffled(state, self._streamed.reshuffle)
        self._bans.load(state)
        if before != (self._reshuffled, self._bans.ids):
            self._standing.outdate()
        size = state.get("batch_size")
        if self.batch_size is None and type(size) is int and size > 0:
            self.batch_size = self.found_batch_size = size
        worker = state.get("workers") is not None
        whole = self._share().end(position, self.length, self._last_step) if position else self.length
        self._standing.go_to(position, epoch, None if worker or self._error is not None else whole)
        self._standing.worker_state = dict(state) if worker else None
        self._standing.set_by("state")

    def seek(self, position: int) -> None:
        """Makes the next iteration begin at this position of the stream."""
        self._standing.seek(position, self.length)

    def set_epoch(self, epoch: int) -> None:
        """Makes the next iteration pass number `epoch`. Does nothing if all passes have the same order.

        Raises InvalidOptionError if a state of another pass was loaded, because the rest of that pass would be left out.
        """
        if type(epoch) is not int or epoch < 0:
            raise InvalidOptionError(f"epoch is {epoch!r}.", remedy="Passes count from 0.", option="epoch")
        if self._reshuffled:
            self._standing.set_epoch(epoch, frameworks.counting(self))

    def explain(self, step: int, epoch: int | None = None) -> list[dict[str, Any]]:
        """Returns dataset, revision, row and epoch of each sample of all ranks in a step. Reads the recipe, and no data.

        `epoch` is the number of the pass. None means the current pass.
        """
        return explained(self, step, self._standing.place()["epoch"] if epoch is None else epoch)

    # --- Changes to the stream

    def skip(self, steps: int) -> None:
        """Continues as if each rank had received its next `steps` batches (samples, if there is no batch size)."""
        if type(steps) is not int or steps < 0:
            raise InvalidOptionError(f"steps is {steps!r}.", remedy="Give a whole number.", option="steps")
        standing = self._standing
        standing.check_reachable("skip")
        running = standing.running()
        if running is not None:
            running.skip(steps)
            return
        state = self._state()
        standing.start, standing.epoch = state["position"], state["epoch"]
        following = self._begin()
        following.skip(steps)
        standing.go_to(following.progress.position(), standing.epoch, self.length)
        standing.placed_by = "state"

    def change_mix(
        self, mix: object, *, at: int | None = None, until: int | None = None, steps: int = 16, read_to: int = 0
    ) -> Recipe:
        """Changes the mix from the next sample on, or from position `at` on. Returns the recipe of the changed stream.

        With `until`, the weights change in `steps` equal steps from there to `until`. Each source continues at its current sample.
        The running loop, the state and `explain` follow the change. All ranks must make the same change at the same step.
        """
        self._standing.check_unread()
        recipe = mixing.change(
            self._recipe,
            mix,
            self._streamed.origin,
            home=self._source.place.home,
            endpoint=self._source.place.endpoint,
            position=max(self._state()["position"], read_to),
            at=at,
            until=until,
            steps=steps,
        )
        self._follow(recipe)
        return recipe

    # --- Feedback from training, and statistics

    def report(self, ids: Any, losses: Any) -> bool:
        """Records the loss of each row. `ids` has the rows' ids or positions, or is the batch. Returns True for a loss
        spike.
        """
        return self.feedback.report(ids, losses)

    def outliers(self, count: int = 10) -> list[dict[str, Any]]:
        """Returns up to `count` rows of the last loss spike. Rows with the highest loss in relation to their dataset come first."""
        return self.feedback.worst(count)

    def ban(self, ids: Iterable[object]) -> None:
        """Leaves out the samples with these ids from now on, in every epoch. The state stores the ids.

        Positions do not change: batches become smaller, but a step is never empty. Call it with the same ids on all ranks.
        """
        self._standing.check_reachable("ban")
        self._bans.add(ids, self.describe())
        self._standing.outdate()

    def unban(self) -> None:
        """Removes all bans: the banned samples are in the stream again."""
        self._standing.check_reachable("unban")
        self._bans.lift()
        self._standing.outdate()

    @property
    def banned(self) -> list[bytes]:
        """The ids of the samples that are left out."""
        return list(self._bans.ids)

    def stats(self) -> dict[str, Any]:
        """Returns what this process read in this pass, and what all ranks received from each source: see docs/training.md."""
        return telemetry.stats(self, self._standing.progress, self._state()["position"])

    def progress(self) -> dict[str, str]:
        """Returns the statistics as a few short strings, for `bar.set_postfix(dataset.progress())`."""
        return telemetry.postfix(self.stats())

    def metrics(self, port: int | None = None, host: str = "127.0.0.1", *, of: Loader | None = None) -> ReaderMetrics:
        """Returns a Prometheus collector of the statistics. It serves them over HTTP if `port` is set; port 0 is any free port."""
        return telemetry.metrics_of(of or self, port, host, rank=(self._reading.rank or find_rank())[0], run=self.run)

    # --- Other ways to use it

    def peek(self, size: int) -> Any:
        """Returns a batch of the next `size` samples of the stream. The dataset's position does not change."""
        return peeked(self, size)

    def find_batch_size(self, step: Callable[[Any], object], *, start: int = 1, most: int = 1 << 16) -> int:
        """Finds the largest batch that `step` can process without running out of memory, and sets it on the dataset."""
        return find_batch_size(self, step, start=start, most=most)

    def loader(self, **options: Any) -> Loader:
        """Returns a loader with workers for this dataset: see `choline_data.client.loader.Loader`."""
        return Loader(self, **options)

    def as_map(self) -> FirehoseMap:
        """Returns a map-style dataset of the same samples, for samplers that use indexes."""
        if self._error is not None:
            raise self._error
        return FirehoseMap(self)
