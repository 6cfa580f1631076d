"""Every limit of the server, with its default. An error names the limit that was reached; `--limit NAME=VALUE` changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from choline_data.errors import InvalidOptionError, LimitError, RequestTooLargeError, nearest


@dataclass(frozen=True)
class Limits:
    """What a server process allows. Times are seconds."""

    max_streams: int = 1000
    max_streams_per_token: int = 512
    streams_per_connection: int = 128  # requests of one gRPC connection at once; further ones wait in the client
    memory: int = 512 << 20  # cached windows and messages
    message_bytes: int = 1 << 20  # target size of a message, unless the request sets one
    # size of the largest sample that is served; a sample above 4 MiB is sent in a separate message
    row_bytes: int = 16 << 20
    recipe_bytes: int = 1 << 20
    sources: int = 256
    # the number of sources × the number of segments of a recipe; the cost of its plan grows with this product
    recipe_weights: int = 1 << 16
    request_bytes: int = 256 << 10  # bytes of a request without its recipe
    # items in a list of a request: the 10,000 ids of GetSamples; every other list is shorter
    request_fields: int = 12_288
    # bytes of running requests and unread answers, counted if they have 64 KiB or more; 0 means a 32nd of memory, at
    # least 6 MiB
    held_bytes: int = 0
    calls: int = 256  # calls that run at the same time; streams are not counted here
    calls_per_token: int = 128
    opened_bytes: int = 128 << 20  # bytes of recipes, plans and selections that open streams hold
    # cost of a `where`: about the bytes that it reads, times the number of terms that read them
    where_work: int = 1 << 36
    packed_pieces: int = 1 << 19  # pieces of documents in an index that a request builds for packing `bfd`
    heartbeat: float = 5.0
    stall: float = 60.0  # how many seconds a consumer may leave a message unread
    # the age at which the server ends a stream with a cursor; the client resumes in a new stream
    max_age: float = 3600.0
    drain: float = 8.0  # the seconds from SIGTERM until the last stream ends
    recheck: float = 30.0  # how often a stream's grants are checked again
    claim_wait: float = 2.0  # how long a reader waits for another reader to give up the same rank of a run
    open_timeout: float = 60.0  # how many seconds resolving a mix or opening a stream may take
    # threads that resolve mixes and open streams of a local home; for a remote home, `read_threads` do this
    open_threads: int = 2
    # threads that make messages from a remote home; for a local home there is one thread, because more would only share
    # the GIL
    read_threads: int = 8
    unread_bytes: int = 0  # bytes of messages that were sent and not read yet; 0 means 3/16 of memory, at least 16 MiB
    # writes that run at once; with more, the transport's own queue would decide which stream is next
    writes_in_flight: int = 2
    http_streams: int = 64
    # connections to the HTTP port, and as many to the metrics port; further ones are closed at once
    http_connections: int = 256
    derived_bytes: int = 32 << 30  # bytes of the selections, indexes and tokens that requests have made in the home
    derived_files: int = 10_000
    request_tokens: int = 256 << 20  # bytes of the biggest dataset that is tokenized on request
    auth_failures: int = 30  # number of bad tokens per minute that one address may send

    @property
    def held(self) -> int:
        """The limit for the bytes of running requests and unread answers in memory."""
        return self.held_bytes or max(self.memory // 32, 6 << 20)

    @property
    def unread(self) -> int:
        """The limit for the bytes of messages that are sent but not read yet, of all streams together."""
        return self.unread_bytes or max(self.memory * 3 // 16, 16 << 20)

    @classmethod
    def of(cls, given: Mapping[str, str | float | int]) -> Limits:
        """Returns the limits with these settings in place of their defaults.

        Raises InvalidOptionError for an unknown name or value.
        """
        known = {f.name: type(getattr(cls(), f.name)) for f in fields(cls)}
        changed: dict[str, float | int] = {}
        for name, value in given.items():
            if name not in known:
                near = nearest(name, known)
                raise InvalidOptionError(
                    f"There is no limit {name!r}.",
                    remedy=f"Did you mean {near!r}?" if near else f"There are: {', '.join(known)}.",
                    option=name,
                )
            try:
                changed[name] = known[name](value)
            except (ValueError, OverflowError) as error:
                raise InvalidOptionError(
                    f"The limit {name} can't be {value!r}.", remedy="Give a number.", option=name
                ) from error
            # 0 is allowed for these limits: their value is then computed from `memory`.
            derived = changed[name] == 0 == getattr(cls(), name)
            if not (derived or 0 < changed[name] < 1 << 50):
                raise InvalidOptionError(
                    f"The limit {name} can't be {value!r}.", remedy="Give a number above 0.", option=name
                )
        return replace(cls(), **changed)  # type: ignore[arg-type]  # each has the type of its field


def bounds(limits: Limits) -> dict[str, float]:
    """Returns the limits that code checks during its work, with `choline_data.process.work.allow`."""
    return {name: getattr(limits, name) for name in ("recipe_weights", "where_work", "packed_pieces")}


def limit_error(setting: str, limit: object, what: str) -> LimitError:
    """Returns the error for a request that exceeds the limit `setting` at the moment. A later request may succeed."""
    remedy = f"Retry later, or raise {_flag(setting)} on the server."
    return LimitError(what, remedy=remedy, setting=setting, limit=limit)


def too_large(setting: str, limit: object, what: str) -> RequestTooLargeError:
    """Returns the error for a request that exceeds the limit `setting` by itself. Another try would fail too."""
    remedy = f"Ask for less, or raise {_flag(setting)} on the server."
    return RequestTooLargeError(what, remedy=remedy, setting=setting, limit=limit)


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}" if setting in ("max_streams", "memory") else f"--limit {setting}=…"
