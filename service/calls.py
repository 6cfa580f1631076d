"""What calls of all faces (gRPC, Flight and HTTP) share: permissions, limits, open streams and the audit log."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from choline_data.errors import (
    InvalidMixError,
    InvalidOptionError,
    PermissionDeniedError,
    RevisionGoneError,
    UnavailableError,
    UnknownDatasetError,
)
from choline_data.mix import resolve_mix
from choline_data.order.recipe import VIEWS, Recipe, RecipeSource
from choline_data.places.home import Home
from choline_data.service.audit import CURRENT, Audit, StreamProgress
from choline_data.service.auth import ACTIONS, Gate, Principal, check_read
from choline_data.service.engine import Engine
from choline_data.service.fairness import Turns
from choline_data.service.frames import parse_fields
from choline_data.service.limits import Limits, limit_error, too_large
from choline_data.service.metrics import ServerMetrics
from choline_data.service.opened import Opened
from choline_data.service.run_claims import RunClaims
from choline_data.store import Entry
from choline_data.store.derived import DerivedQuota
from choline_data.store.faults import naming
from choline_data.store.id_index import index_name, rows_of
from choline_data.tokens.allowed import Allowed

MIX_BYTES = 64 << 10
INDEX_WAIT = 5.0
# how many seconds a request waits for tokens that another request makes; then the client is told to ask again
MAKING_WAIT = 0.5
HELD_BYTES = 64 << 10  # The bytes of a request or an answer of at least this size are counted while it is in memory.


class Calls:
    """The state of one server process that all ports share: engine, access rights, turns, and open streams."""

    def __init__(
        self, home: Home, limits: Limits, token_file: str = "", audit: str = "", tokenizers: Iterable[str] = ()
    ) -> None:
        self.home = home
        self.limits = limits
        home.derived = DerivedQuota(limits.derived_bytes, limits.derived_files, limits.request_tokens, wait=MAKING_WAIT)
        self.metrics = ServerMetrics()
        self.engine = Engine(home, limits, self.metrics)
        self.tokenizers = self.engine.store.tokenizers = Allowed.of(tokenizers)
        self.gate = Gate(token_file, limits)
        self._indexing = threading.Lock()
        self.audit = Audit(audit)
        self.turns = Turns(limits.writes_in_flight)
        self.draining = asyncio.Event()
        self.claims = RunClaims(home, limits, self.draining)
        self.drain_by: float | None = None
        self.open_streams = 0
        self._by_principal: Counter[str] = Counter()
        self._waits: set[asyncio.Timeout] = set()
        self._calls: Counter[str] = Counter()
        self._held = 0
        self.unread = 0

    # --- The audit log

    def grant(self, principal: Principal) -> None:
        """Records that the principal's request is granted, before the first row. Raises UnavailableError if that fails."""
        if principal.asked is not None:
            try:
                self.audit.record_grant(principal.asked)
            except UnavailableError:
                self.metrics.audit_failures.inc()
                raise

    def follow(self, stream: StreamProgress) -> None:
        """Attaches the stream to the current request, so that the audit log records at its end how much it has sent."""
        request_in_progress = CURRENT.get()
        if request_in_progress is not None:
            request_in_progress.stream = stream

    # --- Open streams

    def enter(self, face: str, principal: Principal) -> None:
        """Counts a new stream. Raises at once if the server drains (UnavailableError) or has no stream left (LimitError)."""
        if self.draining.is_set():
            raise UnavailableError(
                "The server shuts down.", remedy="Resume on another server, or here after its restart."
            )
        if self.open_streams >= self.limits.max_streams:
            raise limit_error("max_streams", self.limits.max_streams, "The server has reached its limit of streams.")
        if self._by_principal[principal.id] >= self.limits.max_streams_per_token and principal.id != "anyone":
            raise limit_error(
                "max_streams_per_token",
                self.limits.max_streams_per_token,
                "The token has reached its limit of streams.",
            )
        self.open_streams += 1
        self._by_principal[principal.id] += 1
        self.metrics.streams.labels(face).inc()

    def leave_stream(self, face: str, principal: Principal) -> None:
        """Counts that a stream has ended."""
        self.open_streams -= 1
        self._by_principal[principal.id] -= 1
        if not self._by_principal[principal.id]:
            del self._by_principal[principal.id]
        self.metrics.streams.labels(face).dec()

    def ages_at(self) -> float:
        """Returns the time at which a new stream must end: after 80 to 100 % of `max_age`, so that not all streams end together."""
        return asyncio.get_running_loop().time() + self.limits.max_age * random.uniform(0.8, 1.0)

    def waiting(self, seconds: float) -> asyncio.Timeout:
        """Returns a timeout for waiting until the reader takes data. If the server shuts down, the timeout ends after
        `drain` seconds at the latest.
        """
        when = asyncio.get_running_loop().time() + seconds
        return asyncio.timeout_at(when if self.drain_by is None else min(when, self.drain_by))

    def track(self, wait: asyncio.Timeout) -> None:
        """Registers this timeout of a write, so that `drain` can shorten it."""
        self._waits.add(wait)

    def untrack(self, wait: asyncio.Timeout) -> None:
        """Removes the timeout when the wait is over."""
        self._waits.discard(wait)

    def drain(self) -> None:
        """Ends every stream at its next message. From now on, a reader has at most `drain` seconds to take its message."""
        self.drain_by = asyncio.get_running_loop().time() + self.limits.drain
        self.draining.set()
        self.engine.drain()
        for wait in self._waits:
            when = wait.when()
            if when is not None and when > self.drain_by:
                wait.reschedule(self.drain_by)

    # --- Running calls

    @contextmanager
    def call(self, peer: str) -> Iterator[None]:
        """Context manager: counts a running call that is not a stream. Raises LimitError at once if too many calls run."""
        if self._calls.total() >= self.limits.calls:
            raise limit_error("calls", self.limits.calls, "The server has reached its limit of calls.")
        request_in_progress = CURRENT.get()
        caller = (
            request_in_progress.principal
            if request_in_progress is not None and request_in_progress.principal not in ("", "anyone")
            else peer
        )
        if self._calls[caller] >= self.limits.calls_per_token:
            raise limit_error(
                "calls_per_token", self.limits.calls_per_token, "The caller has reached its limit of calls."
            )
        self._calls[caller] += 1
        try:
            yield
        finally:
            self._calls[caller] -= 1
            if not self._calls[caller]:
                del self._calls[caller]

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Context manager: counts the bytes of a request or an answer while it is in memory. Does not count sizes below
        HELD_BYTES.

        Raises LimitError if the sum is too large now, and RequestTooLargeError if `size` alone is too large.
        """
        if size < HELD_BYTES:
            yield
            return
        if size > self.limits.held:
            raise too_large("held_bytes", self.limits.held, f"The request, or its answer, has {size} bytes.")
        fits = self._held + size <= self.limits.held
        self._held += size * fits
        try:
            if not fits:
                what = "The server holds as many bytes of requests as it may."
                raise limit_error("held_bytes", self.limits.held, what)
            yield
        finally:
            self._held -= size * fits
            self.engine.sweeper.freed(size)

    def check_size(self, raw: bytes) -> None:
        """Raises RequestTooLargeError for a request that is too long. Called before the request is parsed."""
        most = self.limits.request_bytes + self.limits.recipe_bytes
        if len(raw) > most:
            raise too_large(
                "request_bytes",
                self.limits.request_bytes,
                f"The request has {len(raw)} bytes; at most {most} are allowed.",
            )
        fields = self.limits.request_fields
        if len(raw) > 2 * fields and any(number >= fields for number, _ in enumerate(parse_fields(raw))):
            # After parsing, a repeated field of one byte takes up 50 times as much memory.
            raise too_large("request_fields", fields, "The request has too many fields.")

    # --- Permissions

    def list_datasets(self, principal: Principal) -> list[Entry]:
        """Returns the datasets that the principal may list, sorted by name."""
        entries = self.engine.entries()
        return [entries[name] for name in sorted(principal.visible("list", entries))]

    def described(self, principal: Principal, name: str) -> Entry:
        """Returns a dataset that the principal may describe. Raises PermissionDeniedError if the principal may only list the
        dataset, and UnknownDatasetError if the principal may not list it either.
        """
        entry = self._seen(principal, name, ("describe", "list"))
        if not principal.may("describe", name):
            raise PermissionDeniedError(
                f"The token does not grant describing {name!r}.",
                remedy="Ask the server's operator for it.",
                dataset=name,
            )
        return entry

    def readable(self, principal: Principal, name: str) -> Entry:
        """Returns a dataset that the principal may read. Raises the errors of `check_read`."""
        entry = self._seen(principal, name, ACTIONS)
        check_read(principal, [name], self.engine.entries())
        return entry

    def _seen(self, principal: Principal, name: str, actions: Sequence[str]) -> Entry:
        if principal.asked is not None:
            principal.asked.dataset = name
        entries = self.engine.entries()
        if name not in entries or not any(principal.may(action, name) for action in actions):
            raise UnknownDatasetError(name[:200], principal.visible("list", entries))
        return entries[name]

    def resolved(self, principal: Principal, mix: object, **options: Any) -> Recipe:
        """Resolves a mix to a recipe. Only datasets that the principal may read can be in it."""
        if isinstance(mix, str) and len(mix) > MIX_BYTES:
            raise InvalidMixError(f"The mix has {len(mix)} characters.", remedy=f"At most {MIX_BYTES}.")
        if not mix:
            raise InvalidMixError("The mix is empty.", remedy='Such as "web:0.7,code:0.3", or "*" for everything.')
        view = options.get("view") or "samples"
        if view not in VIEWS:
            raise InvalidOptionError(f"There is no view {str(view)[:40]!r}.", remedy=f"Views: {', '.join(VIEWS)}.")
        rows_of: dict[str, Any] = {}
        if view == "tokens":
            from choline_data.tokens.token_stream import token_rows

            rows_of["rows_of"] = token_rows()
            options["options"] = self.tokenizers.settled(self.home, options.get("options") or {})

        def resolve(entries: dict[str, Entry]) -> Recipe:
            seen = frozenset(principal.visible("read", entries))
            more = {**options, **rows_of, "view": view, "allowed": seen, "entries": entries}
            return resolve_mix(mix, self.engine.store, **more)

        try:
            recipe = resolve(self.engine.entries())
        except UnknownDatasetError:
            recipe = resolve(self.engine.entries(now=True))
        if principal.asked is not None:
            principal.asked.recipe = recipe
        return self.engine.remember(recipe)

    def admitted(self, principal: Principal, recipe: Recipe) -> None:
        """Checks that the principal may read every source, and that the revision of every source exists. Raises the errors of
        `check_read`, and RevisionGoneError.
        """
        entries = self.engine.entries()
        if any(not _holds(entries, source) for source in recipe.sources):
            entries = self.engine.entries(now=True)
        check_read(principal, (source.dataset for source in recipe.sources), entries)
        for source in recipe.sources:
            if not _holds(entries, source):
                raise RevisionGoneError(source.dataset, source.revision)

    def opened(self, principal: Principal, raw: bytes, digest: str, columns: Sequence[str]) -> Opened:
        """Opens the stream that a request asks for, if the principal may read it. Records the grant."""
        recipe = self.engine.recipe(raw, digest)
        if principal.asked is not None:
            principal.asked.recipe = recipe
        self.admitted(principal, recipe)
        opened = self.engine.open(recipe, columns)
        self.grant(principal)
        return opened

    def rows_of_ids(self, entry: Entry, ids: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Returns the rows of a dataset with these ids. The first call builds the dataset's index.

        A call that has to wait more than INDEX_WAIT seconds for another index to be built gets UnavailableError.
        """
        with naming(entry.name):
            return self._rows_of_ids(entry, ids)

    def _rows_of_ids(self, entry: Entry, ids: Sequence[bytes]) -> npt.NDArray[np.int64]:
        revision = self.engine.store.revision(entry.revision)
        if self.home.exists(index_name(entry.revision)):
            return rows_of(self.home, revision, ids)
        if not self._indexing.acquire(timeout=INDEX_WAIT):
            raise UnavailableError("An index of ids is being made.", remedy="Ask again in a minute.")
        try:
            return rows_of(self.home, revision, ids)
        finally:
            self._indexing.release()


def _holds(entries: Mapping[str, Entry], source: RecipeSource) -> bool:
    """Whether the catalog has this revision of the source's dataset."""
    entry = entries.get(source.dataset)
    return entry is not None and source.revision in (entry.revision, *entry.earlier)


def view_options(options: Mapping[str, str]) -> dict[str, str]:
    """Returns the view's options from a request. Raises InvalidOptionError if the options are too many or too long."""
    if len(options) > 32 or any(len(k) + len(v) > 4096 for k, v in options.items()):
        raise InvalidOptionError(
            "The view's options are too many or too long.",
            remedy="At most 32, of 4096 bytes each.",
            option="view_options",
        )
    return dict(options)
