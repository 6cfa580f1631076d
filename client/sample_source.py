"""Opens readers of a stream: one that the process keeps, and one for each pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from choline_data.client.feedback import mixing
from choline_data.client.passing.standing import in_worker
from choline_data.client.readers import forks
from choline_data.client.readers.claiming import Claimant, ClaimingReader
from choline_data.client.readers.connection import BUDGET_SECONDS, STALL_SECONDS, Endpoint
from choline_data.client.readers.embedded import EmbeddedReader, resolve_in_home
from choline_data.client.readers.prefetch import QUEUE_BYTES
from choline_data.client.readers.reader import Reader, StreamDescription
from choline_data.errors import InvalidOptionError
from choline_data.order.recipe import Recipe
from choline_data.places.claims import Claims, RunClaim
from choline_data.places.home import Home, default_home


@dataclass(frozen=True)
class PlaceOptions:
    """Where samples come from: a local home or servers."""

    home: str
    endpoint: Endpoint | None
    read_ahead: int  # how many bytes a reader fetches ahead; 0 without a server

    @classmethod
    def of(
        cls,
        home: str | os.PathLike[str] | None,
        server: str | Sequence[str] | None,
        *,
        token: str | None,
        tls: bool | str | Mapping[str, str] | None,
        prefetch_bytes: int | None,
        retry_seconds: float | None,
        stall_seconds: float | None,
    ) -> PlaceOptions:
        """Builds the value. Raises InvalidOptionError for an option that has no meaning for this kind of place.

        - home: The folder or fsspec URL of the home. None means `CHOLINE_DATA_HOME`, or the home of this user.
        - server: The address of a server, `"host:port"`, or a list of addresses. None reads the home in this process.
        - token: The token for the server.
        - tls: True, the file of a certificate authority, or a dict with `ca`, `cert` and `key`.
        - prefetch_bytes: How many bytes a reader fetches ahead from a server. None means 256 MiB.
        - retry_seconds: How long a reader tries to reach a server before it raises `UnavailableError`. None means 300.
        - stall_seconds: How long a server may be silent before the reader leaves it. None means 15.
        """
        if server is None:
            of_servers = {
                "token": token,
                "tls": tls,
                "prefetch_bytes": prefetch_bytes,
                "retry_seconds": retry_seconds,
                "stall_seconds": stall_seconds,
            }
            for name, value in of_servers.items():
                if value is not None:
                    raise InvalidOptionError(
                        f"{name} has no meaning without a server.",
                        remedy=f'Set server="host:port", or leave {name} out.',
                        option=name,
                    )
            return cls(os.fspath(home) if home is not None else default_home(), None, 0)
        if home is not None:
            raise InvalidOptionError(
                "home and server are two places to read from.", remedy="Give one of them.", option="home"
            )
        endpoint = Endpoint.of(
            server,
            token=token,
            tls=tls,
            budget=BUDGET_SECONDS if retry_seconds is None else retry_seconds,
            stall=STALL_SECONDS if stall_seconds is None else stall_seconds,
        )
        return cls(default_home(), endpoint, QUEUE_BYTES if prefetch_bytes is None else prefetch_bytes)

    def recipe_of(
        self, mix: object, settings: Mapping[str, Any], tokens: Mapping[str, Any], columns: Sequence[str] | None
    ) -> tuple[Recipe, StreamDescription | None]:
        """Resolves a mix to a recipe. With servers, also returns the server's description of the stream."""
        if self.endpoint is None:
            return mix if isinstance(mix, Recipe) else resolve_in_home(self.home, mix, settings, tokens), None
        from choline_data.client.readers import remote

        options = {}
        if settings["view"] == "tokens":
            from choline_data.tokens.token_stream import remote_options

            options = remote_options(**tokens)
        return remote.resolve_on_server(self.endpoint, mix, settings, options, columns)

    def __str__(self) -> str:
        return ",".join(self.endpoint.addresses) if self.endpoint else self.home


class SampleSource:
    """The stream of one recipe from one place. Picklable. Opens nothing before its first use."""

    def __init__(self, place: PlaceOptions, columns: tuple[str, ...] | None, claimant: Claimant | None) -> None:
        self.place = place
        self._columns = columns
        self._claimant = claimant
        self._recipe: Recipe | None = None
        self._described: StreamDescription | None = None
        self._kept: dict[tuple[int, int], Reader] = {}  # readers by the process and the pass that they belong to

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def follow(self, recipe: Recipe, described: StreamDescription | None = None) -> None:
        """Makes later passes read this recipe, after a change of the mix. `described` is a server's description of the
        stream.
        """
        before, endpoint = described or self._described, self.place.endpoint
        changed = endpoint is not None and before is not None
        self._described = mixing.describe_change(recipe, before, endpoint, self._columns) if changed else None  # type: ignore[arg-type]
        for reader in self._kept.values():
            reader.close()
        self._recipe, self._kept = recipe, {}

    def describe(self) -> StreamDescription:
        """Returns the recipe, the Arrow schema, the names of the datasets and the length."""
        if self._described is None:
            self._described = self.reader().describe()
        return self._described

    def reader(self, number: int = 0) -> Reader:
        """Returns the reader of this pass that the process keeps. A forked process opens its own reader."""
        key = os.getpid(), number
        if key not in self._kept:
            self._kept[key] = self.open(number)
            if self.place.endpoint is not None:
                forks.watch(cast(forks.Pausable, self._kept[key]))
            # The reader of the first pass also describes the stream and serves map-style views.
            for old in [old for old in self._kept if old not in (key, (key[0], 0))]:
                self._kept.pop(old).close()
        return self._kept[key]

    def for_pass(self, rank: int, number: int) -> Callable[[], Reader]:
        """Returns a function that opens the reader of this pass.

        If the dataset belongs to a named run (`run=`), the reader keeps other processes from reading the same rank.
        """
        claim = None if self._claimant is None else self._claimant.claim(rank)
        if self.place.endpoint is None:
            reader = self.reader(number)
            claims = None if claim is None else Claims.of(Home(self.place.home))
            if claim is not None and claims is not None:
                reader = ClaimingReader(reader, claims, claim)
        else:
            reader = self.open(number, claim)  # each pass has a stream of its own
        return lambda: reader

    def open(self, number: int, claim: RunClaim | None = None) -> Reader:
        """Opens and returns a new reader of pass `number`. `claim` says which rank of a named run it reads."""
        if in_worker():
            forks.end_with_parent()
        assert self._recipe is not None
        recipe = self._recipe.in_pass(number)
        if self.place.endpoint is None:
            return EmbeddedReader(self.place.home, recipe, self._columns)
        from choline_data.client.readers.remote import RemoteReader

        return RemoteReader(self.place.endpoint, replace(self.describe(), recipe=recipe), self._columns, claim)

    def settle(self) -> None:
        """Makes a new identity for claims if this is not the process that made the old one."""
        if self._claimant is not None:
            self._claimant.settle()
