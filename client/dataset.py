"""FirehoseDataset: any mix as a torch IterableDataset, exact to the sample."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.utils.data import IterableDataset

from choline_data.claims import Claim, Claims
from choline_data.client import forks, formats, mixing
from choline_data.client import state as states
from choline_data.client.bans import Bans
from choline_data.client.claiming import Claimant, Claimed
from choline_data.client.connection import BUDGET_SECONDS, STALL_SECONDS, Endpoint
from choline_data.client.embedded import EmbeddedReader
from choline_data.client.embedded import resolved as resolved_here
from choline_data.client.feedback import Feedback
from choline_data.client.meshes import placed
from choline_data.client.options import budgeted, media_tensors, one_of, weighted
from choline_data.client.outliers import Outliers
from choline_data.client.passes import KEPT_BYTES, Maker, Pass, Progress, Share, share_of
from choline_data.client.prefetch import QUEUE_BYTES
from choline_data.client.ranks import find_rank
from choline_data.client.reading import Chunk, Described, Reader
from choline_data.errors import InvalidOptionError, OutOfRangeError
from choline_data.home import Home, default_home
from choline_data.memory import keep_freed
from choline_data.recipe import Recipe

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from choline_data.client.loader import Loader
    from choline_data.client.maps import FirehoseMap


LAST = ("short", "drop", "wrap")


class FirehoseDataset(Feedback, IterableDataset):  # type: ignore[misc]
    """The samples of a mix, of a home in this process (`server=None`) or of servers, shared out over ranks and workers.

    Iterating begins at position 0, or where `load_state_dict` or `seek` put it; after a finished pass at 0 again.
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
        format: str | None = None,
        tokenizer: str | None = None,
        seq_len: int | None = None,
        size: int | Sequence[int] | None = None,
        rate: int | None = None,
        packing: str = "concat",
        boundary: str = "eos",
        rank: int | None = None,
        world_size: int | None = None,
        mesh: DeviceMesh | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        repeat: bool = True,
        max_samples: int | None = None,
        last_batch: str = "short",
        unit: str | None = None,
        on_exhausted: str = "renormalize",
        source_batches: bool | int = False,
        weights: Sequence[object] | None = None,
        probabilities: Sequence[object] | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        decode: str | None = None,
        on_error: str = "raise",
        token: str | None = None,
        tls: bool | str | Mapping[str, str] | None = None,
        home: str | os.PathLike[str] | None = None,
        run: str | None = None,
        prefetch_bytes: int = QUEUE_BYTES,
        retry_seconds: float = BUDGET_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        super().__init__()
        keep_freed(KEPT_BYTES)  # before there are threads
        one_of("on_error", on_error, ("raise", "skip"))
        one_of("last_batch", last_batch, LAST)
        one_of("decode", decode, (None, "pil", "torch"))
        for name, number in (("batch_size", batch_size), ("max_samples", max_samples), ("seq_len", seq_len)):
            if number is not None and (type(number) is not int or number < 1):
                raise InvalidOptionError(f"{name} is {number!r}.", remedy="Give a whole number above 0.", option=name)
        self._rank, peer = placed(rank, world_size, mesh)
        self._claimant = None if run is None else Claimant(run, peer)
        self.batch_size, self.batch_tokens = budgeted(batch_size, batch_tokens, view, seq_len)
        self.found_batch_size: int | None = None
        self.run = run
        self._columns = None if columns is None else tuple(columns)
        self._max_samples = max_samples
        self._last = last_batch
        self._transform, self._decode, self._on_error = transform, decode, on_error
        self._ahead = prefetch_bytes
        self._home = os.fspath(home) if home is not None else default_home()
        self._endpoint: Endpoint | None = None
        self._media = media_tensors(format, view, size, rate, decode)
        self._format = format if self._media is None else None
        formats.format_of(self._format, view, {})
        tokens = formats.token_settings(self._format, tokenizer, seq_len, packing, boundary)
        self._view_settings = tokens
        settings = {
            "seed": seed,
            "shuffle": shuffle,
            "view": view,
            "repeat": bool(repeat),
            "where": where or "",
            "on_exhausted": on_exhausted,
            "unit": unit or "",
        }
        mix = weighted(mix, weights, probabilities)
        if not isinstance(mix, Recipe):
            from choline_data.mix import parse_mix

            mix = parse_mix(mix, files=True)
        self._origin = mixing.Origin(settings, tokens, unit or ("" if isinstance(mix, Recipe) else mix.unit))
        self._described: Described | None = None
        if server is None:
            recipe = mix if isinstance(mix, Recipe) else resolved_here(self._home, mix, settings, tokens)
        else:
            reached = {"token": token, "tls": tls, "budget": retry_seconds, "stall": stall_seconds}
            recipe = self._connect(server, mix, settings, reached)
        self._start = 0
        self._epoch = 0
        self._begun: Mapping[str, Any] | None = None  # the state of one worker, until it iterates
        self._progress: Progress | None = None
        self._expected: forks.Found | None = None
        self._elsewhere = False  # workers read it, and how far they are is not known here
        self._in_workers = False  # workers read it
        self._begun_elsewhere = False  # those of a loader that is not ours
        self._parent_rank: tuple[int, int] | None = None
        self._readers: tuple[int, Reader] | None = None
        self._live: tuple[weakref.ref[Pass], Share] | None = None
        self._bans = Bans()
        self.feedback = Outliers()
        self._follow(mixing.in_batches(recipe, source_batches, self.batch_size))
        forks.watch_dataset(self)

    def _connect(
        self,
        server: str | Sequence[str],
        mix: object,
        settings: Mapping[str, Any],
        reached: Mapping[str, Any],
    ) -> Recipe:
        from choline_data.client import remote

        self._endpoint = Endpoint.of(server, **reached)
        tokens = {}
        if settings["view"] == "tokens":
            from choline_data.tokens.stream import remote_options

            tokens = remote_options(**self._view_settings)
        recipe, self._described = remote.resolved(self._endpoint, mix, settings, tokens, self._columns)
        return recipe

    def _follow(self, recipe: Recipe) -> None:
        """Reads by this recipe from now on, also in a pass that is under way."""
        self._error = mixing.exhaustion(recipe, self._max_samples)
        if self._endpoint is not None and self._described is not None:
            self._described = mixing.described(recipe, self._described, self._endpoint, self._columns)
        else:
            self._described = None
        if self._readers is not None:
            self._readers[1].close()
        self._recipe, self._readers = recipe, None
        self._summary = -1, ""  # made when the state is asked for, beside as many bytes of bans as there are then
        self._length = self.describe().length
        self.feedback.follow(self.describe().datasets)
        live = None if self._live is None else self._live[0]()
        if self._live is not None and live is not None and not live.progress.finished:
            live.progress.end = self._live[1].end(self._start, self.length, self._last_step)
            live.read_on(self._reader_for_pass(), self.maker(), **self._reading())

    # --- What it is

    @property
    def recipe(self) -> Recipe:
        """The recipe: all that decides the stream."""
        return self._recipe

    @property
    def length(self) -> int | None:
        """Positions in the stream, of all ranks together; None where it has no end."""
        if self._max_samples is None:
            return self._length
        return self._max_samples if self._length is None else min(self._length, self._max_samples)

    @property
    def epoch(self) -> int:
        """The pass that it is in, from 0."""
        return self._epoch

    @property
    def is_remote(self) -> bool:
        """Whether samples come from a server."""
        return self._endpoint is not None

    @property
    def needs_python(self) -> bool:
        """Whether each sample is decoded or transformed by Python."""
        return self._transform is not None or self._decode is not None or self._media is not None

    @property
    def _last_step(self) -> str:
        """What becomes of the last step: an end that is an error comes to all ranks after as many steps."""
        return "drop" if self._error is not None and self._last == "wrap" else self._last

    def describe(self) -> Described:
        """The recipe, the Arrow schema, the names of the datasets and the length."""
        if self._described is None:
            self._described = self.reader().describe()
        return self._described

    @property
    def features(self) -> list[str]:
        """The fields of a sample."""
        return [*self.describe().schema.names, "position"]

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError(
                "This FirehoseDataset has no end: set max_samples, or repeat=False, for one that has a length."
            )
        if self.batch_tokens is not None:
            raise TypeError("How many batches a budget of tokens makes is known only when they are made.")
        share = self._share_here()
        lane, _ = share.lane(self._start)
        count = lane.below(share.end(self._start, self.length, self._last_step) or 0)
        return count if self.batch_size is None else -(-count // self.batch_size)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        where = ",".join(self._endpoint.addresses) if self._endpoint else self._home
        sources = ", ".join(s.name for s in self._recipe.sources[:8])
        return f"FirehoseDataset({sources}; {self._recipe.view}, recipe {self._recipe.digest[:12]}…, from {where})"

    # --- Iterating

    def _share_here(self) -> Share:
        rank = self._rank or find_rank()
        return Share(*rank, self.batch_size)

    def _found_rank(self) -> tuple[int, int]:
        info = torch.utils.data.get_worker_info()
        # A worker knows no process group: its rank is that of the process which started it.
        return self._rank or (self._parent_rank if info is not None and self._parent_rank else find_rank())

    def _share(self) -> Share:
        rank = self._found_rank()
        batch = self.batch_size or (None if self.batch_tokens is None else 1)
        return share_of(forks.iterating(self), self._expected, rank, self._rank is not None, batch)

    def __iter__(self) -> Iterator[Any]:
        fetcher = forks.fetcher()
        if fetcher is not None and getattr(fetcher, "length", None) is None and not forks.iterating(self).loader:
            raise InvalidOptionError(
                "Lightning takes a batch ahead, and its checkpoint would lose that batch.",
                remedy="Give it dataset.loader() in place of the dataset.",
            )
        return self.begin()

    def begin(self) -> Pass:
        """A pass from where the dataset stands."""
        share = self._share()
        mixing.check_batches(self._recipe, self._start, share.batch, self.batch_tokens)
        lane, offset = share.lane(self._start)
        begun, self._begun = self._begun, None
        fits = begun is not None and (begun.get("workers"), begun.get("worker")) == (share.workers, share.worker)
        if self.batch_tokens is not None and (begun is None or fits):
            return self._begin_budget(share, begun, self.batch_tokens)
        if begun is not None and fits:
            lane, offset = Share(share.rank, share.world, share.batch, 0, share.workers, share.loader_batch).lane(
                begun["position"]
            )
        elif begun is not None:
            raise InvalidOptionError(
                f"This is the state of worker {begun.get('worker')} of {begun.get('workers')}.",
                remedy="Load the whole state of the loader into the dataset: dataset.load_state_dict(loader_state).",
            )
        progress = Progress(
            lane,
            offset,
            share.group,
            share.end(self._start, self.length, self._last_step),
            self._epoch,
            worker=share.worker,
            workers=share.workers,
            split="samples" if share.batch is None and share.workers > 1 and share.loader_batch is None else "",
        )
        return self._pass(Pass, progress, share, batch=self.batch_size)

    def _begin_budget(self, share: Share, begun: Mapping[str, Any] | None, budget: int) -> Pass:
        from choline_data.client.budget import BudgetPass, progress_of

        progress = progress_of(share, self._start, self.length, self._epoch, begun)
        return self._pass(BudgetPass, progress, share, share=share, budget=budget, last=self._last_step)

    def _pass(self, kind: type[Pass], progress: Progress, whole: Share, **options: Any) -> Pass:
        self.forget_pass()
        self._progress = progress
        myself = weakref.ref(self)

        def done() -> None:
            dataset = myself()
            if dataset is not None and dataset._progress is progress:
                dataset._start, dataset._epoch = 0, progress.epoch + 1
                if dataset._error is not None:  # the stream stands at its end until its mix is changed
                    dataset._start, dataset._epoch = dataset._length or 0, progress.epoch

        options |= {"bans": self._bans, "outliers": self.feedback, "other": self.reader}
        made = kind(progress, self._reader_for_pass(), self.maker(), **options, **self._reading(), done=done)
        self._live = (weakref.ref(made), whole)
        return made

    def _reading(self) -> dict[str, Any]:
        ahead = self._ahead if self._endpoint is not None else 0
        return {"length": self.length, "ahead": ahead, "error": self._error}

    def maker(self) -> Maker:
        """What turns chunks into samples and batches."""
        form = formats.format_of(self._format, self._recipe.view, self._view_settings)
        return Maker(self.describe().datasets, form, self._decode, self._transform, self._media, self._on_error)

    def _reader_for_pass(self) -> Callable[[], Reader]:
        claim = None if self._claimant is None else self._claimant.claim(self._found_rank()[0])
        if self._endpoint is None:
            reader = self.reader()
            claims = None if claim is None else Claims.of(Home(self._home))
            if claim is not None and claims is not None:
                reader = Claimed(reader, claims, claim)
        else:
            reader = self._opened(claim)  # each pass has a stream of its own
        return lambda: reader

    def _opened(self, claim: Claim | None = None) -> Reader:
        if torch.utils.data.get_worker_info() is not None:
            forks.end_with_parent()
        if self._endpoint is None:
            return EmbeddedReader(self._home, self._recipe, self._columns)
        from choline_data.client.remote import RemoteReader

        return RemoteReader(self._endpoint, self.describe(), self._columns, claim)

    def reader(self) -> Reader:
        """The reader of this process: a forked one opens its own."""
        if self._readers is None or self._readers[0] != os.getpid():
            self._readers = (os.getpid(), self._opened())
            if self.is_remote:
                forks.watch(cast(forks.Pausable, self._readers[1]))
        return self._readers[1]

    def expect(self, found: forks.Found) -> None:
        """Notes which loader starts workers for this dataset, and the rank of the process that does."""
        if self._claimant is not None:
            self._claimant.settle()
        if found.loader or found.shard_group or found.dispatcher:
            self._expected = found
            self._parent_rank = self._rank or find_rank()
            self._elsewhere, self._in_workers = found.stateless, found.workers > 0
            self._begun_elsewhere = self._in_workers and not found.ours

    def __getstate__(self) -> dict[str, Any]:
        self.expect(forks.iterating(self))
        return {**self.__dict__, "_readers": None, "_progress": None, "_live": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        forks.watch_dataset(self)

    # --- State

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands, by what was yielded: a fresh flat JSON dict of at most 4 KiB.

        InvalidOptionError where workers of a plain DataLoader read: how far they are is known to nobody.
        """
        if self._elsewhere and torch.utils.data.get_worker_info() is None:
            raise InvalidOptionError(
                "Workers of a DataLoader read this dataset, and how far they are is not known here.",
                remedy="Use dataset.loader(), whose state_dict() follows them, or torchdata's StatefulDataLoader.",
                option="num_workers",
            )
        return self._state()

    def lasting_state(self) -> dict[str, Any]:
        """What of the state is the same at every position: the recipe, and which samples are banned."""
        banned = self._bans.packed()
        if self._summary[0] != len(banned):
            self._summary = len(banned), states.summary(self._recipe, len(banned))
        state = {
            "version": states.VERSION,
            "recipe": self._recipe.digest,
            "seed": self._recipe.seed,
            "summary": self._summary[1],
        }
        return {**state, "banned": banned} if banned else state

    def _state(self) -> dict[str, Any]:
        progress = self._progress
        state = {**self.lasting_state(), "position": self._start, "epoch": self._epoch}
        if self.run is not None:
            state["run"] = self.run
        if self.found_batch_size is not None:
            state["batch_size"] = self.found_batch_size
        if progress is None:
            return state
        state["step"] = progress.group
        if progress.workers > 1 or torch.utils.data.get_worker_info() is not None:
            state.update(worker=progress.worker, workers=progress.workers, position=progress.position())
            state["epoch"] = progress.epoch
            if progress.split:
                state["split"] = progress.split
            if (skip := getattr(progress, "skip", None)) is not None:
                state["skip"] = skip
        elif not progress.finished:
            state["position"], state["epoch"] = progress.position(), progress.epoch
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where `state` was taken, whatever the ranks and workers were then and are now.

        Takes what `state_dict` gave, here or of a `loader()`, or the whole state of a StatefulDataLoader.
        """
        state = states.flattened(state)
        recipe = states.followed(state, self._recipe)
        if recipe is not self._recipe:
            self._progress = self._live = None
            self._follow(recipe)
        position, epoch = states.check(state, self._recipe)
        self._bans.load(state)
        worker = state.get("workers") is not None
        self._begun = dict(state) if worker else None
        if not worker and self.length is not None and position >= self.length and self._error is None:
            position, epoch = 0, epoch + 1
        self._start, self._epoch = position, epoch
        self.forget_pass()
        found = state.get("batch_size")
        if self.batch_size is None and type(found) is int and found > 0:
            self.batch_size = self.found_batch_size = found

    def seek(self, position: int) -> None:
        """The next iteration begins at this position of the stream."""
        length = self.length
        if type(position) is not int or position < 0 or (length is not None and position > length):
            raise OutOfRangeError(
                f"Position {position} is not in the stream.",
                remedy=f"It has positions 0 to {length - 1}." if length else "Positions begin at 0.",
            )
        self._start, self._begun = position, None
        self.forget_pass()

    def rewind(self, epoch: int) -> None:
        """The next iteration is pass `epoch`, from its beginning."""
        self._start, self._epoch, self._begun = 0, epoch, None
        self.forget_pass()

    def forget_pass(self) -> None:
        """No pass is under way, here or in workers."""
        self._progress, self._live = None, None
        self._elsewhere = self._in_workers = self._begun_elsewhere = False

    def explain(self, step: int) -> list[dict[str, Any]]:
        """The rows of step `step` of all ranks: dataset, revision, row and epoch of each, from the recipe alone."""
        from choline_data.client.explain import explain

        if self.batch_tokens is not None:
            raise InvalidOptionError(
                "Where step N of a budget of tokens begins depends on the samples before it.",
                remedy="Ask a dataset without batch_tokens: its step N is position N.",
                option="batch_tokens",
            )
        share = self._share_here()
        size = share.world * (self.batch_size or 1)
        stop = (step + 1) * size if self.length is None else min((step + 1) * size, self.length)
        return explain(self._recipe, step * size, stop, batch=self.batch_size or 1, world=share.world)

    # --- Other ways to use it

    def peek(self, size: int) -> Any:
        """A batch of `size` samples from where the dataset stands, which is not moved."""
        length = self.length
        positions = [p if length is None else p % length for p in range(self._start, self._start + size)]
        chunk = Chunk(self.reader().at(positions), np.asarray(positions, dtype=np.int64))
        make = self.maker()
        return make.batch(chunk) if make.plain else make.collated([make.finished(s) for s in make.samples(chunk)])

    def find_batch_size(self, step: Callable[[Any], object], *, start: int = 1, most: int = 1 << 16) -> int:
        """The most samples that `step` takes in one batch without running out of memory; sets it on the dataset."""
        from choline_data.client.batching import find_batch_size

        return find_batch_size(self, step, start=start, most=most)

    def loader(self, **options: Any) -> Loader:
        """A loader with the right settings: see `choline_data.client.loader.Loader`."""
        from choline_data.client.loader import Loader

        return Loader(self, **options)

    def as_map(self) -> FirehoseMap:
        """The same samples by index, for samplers that index."""
        from choline_data.client.maps import FirehoseMap

        if self._error is not None:
            raise self._error
        return FirehoseMap(self)
