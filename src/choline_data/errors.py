"""One tree of errors, branched by what the caller can do.

CholineDataError
├── RequestError            fix the request
│   ├── UnknownDatasetError     DATASET_UNKNOWN
│   ├── UnknownFieldError       FIELD_UNKNOWN
│   ├── InvalidMixError         MIX_INVALID
│   ├── InvalidPredicateError   PREDICATE_INVALID
│   ├── InvalidCursorError      CURSOR_INVALID
│   ├── RecipeMismatchError     RECIPE_MISMATCH
│   ├── OutOfRangeError         POSITION_OUT_OF_RANGE
│   ├── SourceExhaustedError    SOURCE_EXHAUSTED
│   ├── InvalidNameError        NAME_INVALID
│   ├── InvalidOptionError      OPTION_INVALID
│   ├── ForbiddenLocationError  LOCATION_FORBIDDEN
│   ├── UnauthenticatedError    UNAUTHENTICATED
│   ├── PermissionDeniedError   PERMISSION_DENIED
│   ├── AlreadyExistsError      DATASET_EXISTS
│   ├── RevisionGoneError       REVISION_GONE
│   ├── RequestTooLargeError    REQUEST_TOO_LARGE
│   └── RankTakenError          RANK_TAKEN
├── ChoiceNeededError       choose one of two likely readings         CHOICE_NEEDED (exit code 3)
├── DataError               fix the data
│   ├── SourceNotFoundError     SOURCE_NOT_FOUND
│   ├── SourceFormatError       SOURCE_FORMAT
│   ├── SourceDamagedError      SOURCE_DAMAGED
│   ├── SourceTooLargeError     SOURCE_TOO_LARGE
│   ├── MissingFieldError       FIELD_MISSING
│   ├── TooManyRejectsError     TOO_MANY_REJECTS
│   ├── SelfCheckError          SELF_CHECK
│   └── DamagedStoreError       STORE_DAMAGED
├── HomeError               fix the home's disk or access rights       HOME_UNUSABLE
├── MissingDependencyError  install an extra                          DEPENDENCY_MISSING
└── TransientError          wait and retry
    ├── UnavailableError        UNAVAILABLE
    ├── LimitError              LIMIT_REACHED
    └── ConflictError           CONFLICT

A message may change between releases; a `reason` and the keys of its `metadata` may not. The server and the client
raise the same class.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


def one_line(text: object, limit: int = 500) -> str:
    """Returns `text` on one line, with control characters escaped, cut to `limit` characters. Safe to print and to log."""
    raw = str(text)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in raw[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is most similar to `name`. None if no known name is similar enough."""
    matches = difflib.get_close_matches(name[:200], list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


_LISTED = 12  # the largest number of names that a message lists


def _listing(names: Iterable[str]) -> str:
    shown = [one_line(n, 60) for n in names]
    return ", ".join(shown[:_LISTED]) + (f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else "")


class CholineDataError(Exception):
    """Base of every error that this package raises on purpose."""

    reason: ClassVar[str] = "ERROR"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "", **metadata: object) -> None:
        if message.startswith("Caught ") and "DataLoader worker" in message[:120]:
            # torch raises the error of a worker again with the whole traceback as its message. The last line of this
            # text is the original message.
            message = message.rstrip().rpartition("\n")[2].partition(": ")[2]
        self.message = one_line(message)
        self.remedy = one_line(remedy)
        self.metadata: dict[str, str] = {key: one_line(value, 200) for key, value in metadata.items()}
        super().__init__(f"{self.message} {self.remedy}".strip())

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.remedy, self.metadata)


def _rebuild(kind: type[CholineDataError], message: str, remedy: str, metadata: dict[str, str]) -> CholineDataError:
    error = kind.__new__(kind)
    CholineDataError.__init__(error, message, remedy=remedy, **metadata)
    return error


class RequestError(CholineDataError):
    """The request has to change."""

    reason = "REQUEST_INVALID"


class UnknownDatasetError(RequestError):
    """The catalog has no such dataset."""

    reason = "DATASET_UNKNOWN"

    def __init__(self, name: str, known: Iterable[str] = (), *, home: str = "") -> None:
        known = list(known)
        near = nearest(name, known)
        remedy = f"Did you mean {near!r}?" if near else "`choline-data list` shows what there is."
        place = f"in the catalog of {home}" if home else "in the catalog"
        super().__init__(f"No dataset {one_line(name, 80)!r} {place}.", remedy=remedy, dataset=name)


class UnknownFieldError(RequestError):
    """A predicate, mapping or column list names a field that does not exist."""

    reason = "FIELD_UNKNOWN"

    def __init__(self, field: str, known: Iterable[str] = (), *, where: str = "") -> None:
        known = list(known)
        near = nearest(field, known)
        remedy = f"Did you mean {near!r}?" if near else f"There are: {_listing(known)}." if known else ""
        place = f"{where}: " if where else ""
        super().__init__(f"{place}no field {one_line(field, 80)!r}.", remedy=remedy, field=field)


class InvalidMixError(RequestError):
    """The mix can't be parsed, or its values contradict each other."""

    reason = "MIX_INVALID"


class InvalidPredicateError(RequestError):
    """A `where` predicate can't be parsed, or exceeds a limit."""

    reason = "PREDICATE_INVALID"


class InvalidCursorError(RequestError):
    """The cursor is damaged, or its format is newer than this version."""

    reason = "CURSOR_INVALID"


class RecipeMismatchError(RequestError):
    """The cursor or state belongs to another recipe."""

    reason = "RECIPE_MISMATCH"


class OutOfRangeError(RequestError):
    """The position is not in the stream."""

    reason = "POSITION_OUT_OF_RANGE"


class SourceExhaustedError(RequestError):
    """A source of a mix with `on_exhausted="error"` is exhausted. `source` and `position` are in the metadata."""

    reason = "SOURCE_EXHAUSTED"


class InvalidNameError(RequestError):
    """The name does not match the documented pattern."""

    reason = "NAME_INVALID"


class InvalidOptionError(RequestError):
    """An option has an invalid value, or two options exclude each other."""

    reason = "OPTION_INVALID"


class ForbiddenLocationError(RequestError):
    """The policy does not allow this URL or path."""

    reason = "LOCATION_FORBIDDEN"


class UnauthenticatedError(RequestError):
    """The request has no token, or a token that the server does not know."""

    reason = "UNAUTHENTICATED"


class PermissionDeniedError(RequestError):
    """The token does not have the permission for this request."""

    reason = "PERMISSION_DENIED"


class AlreadyExistsError(RequestError):
    """A dataset with this name but other content already exists."""

    reason = "DATASET_EXISTS"


class RequestTooLargeError(RequestError):
    """The request needs more than a limit of the server allows, now and later. `setting` and `limit` are in the metadata."""

    reason = "REQUEST_TOO_LARGE"


class RevisionGoneError(RequestError):
    """The recipe or the reader's state names a removed revision. `dataset` and `revision` are in the metadata."""

    reason = "REVISION_GONE"

    def __init__(self, dataset: str, revision: str) -> None:
        name = f"{dataset}@{revision[:12]}" if dataset else f"Revision {revision[:12]}"
        super().__init__(
            f"{name} is gone: it was removed from the catalog.",
            remedy="Add the same source again, which makes the same revision; or start a new stream.",
            dataset=dataset,
            revision=revision,
        )


class RankTakenError(RequestError):
    """Another reader already holds this rank of the run and is still reading."""

    reason = "RANK_TAKEN"


class ChoiceNeededError(CholineDataError):
    """The source can be read in two ways that fit about equally well. The message names the flags that choose."""

    reason = "CHOICE_NEEDED"
    exit_code = 3


class DataError(CholineDataError):
    """The data has to be corrected or left out."""

    reason = "DATA_INVALID"


class SourceNotFoundError(DataError):
    """Nothing exists at this path, URL or name."""

    reason = "SOURCE_NOT_FOUND"


class SourceFormatError(DataError):
    """The format is unknown, or the content does not match the format that the source states."""

    reason = "SOURCE_FORMAT"


class SourceDamagedError(DataError):
    """A file is truncated or corrupt, or contradicts its own metadata."""

    reason = "SOURCE_DAMAGED"


class SourceTooLargeError(DataError):
    """A row, archive member or file exceeds a limit. The message names the setting."""

    reason = "SOURCE_TOO_LARGE"


class MissingFieldError(DataError):
    """A shard lacks a column that the mapping needs."""

    reason = "FIELD_MISSING"

    def __init__(self, field: str, where: str, found: Iterable[str] = ()) -> None:
        super().__init__(
            f"{where} has no field {one_line(field, 80)!r}; it has {_listing(found)}.",
            remedy="Name the right one with --map or under `mapping` in its card.",
            field=field,
        )


class TooManyRejectsError(DataError):
    """The number of unreadable rows exceeds the budget. Nothing was published."""

    reason = "TOO_MANY_REJECTS"


class SelfCheckError(DataError):
    """A stored row differs from what an independent reader reads from the source. Nothing was published."""

    reason = "SELF_CHECK"

    def __init__(self, file: str, row: int, how: str) -> None:
        super().__init__(
            f"{file}, row {row}: {one_line(how)}. An independent reader read it otherwise. Nothing was published.",
            remedy="This is a fault of choline-data: please report it. --no-check adds the source all the same.",
            file=file,
        )


class DamagedStoreError(DataError):
    """A file of the store is missing or truncated, or its checksum does not match."""

    reason = "STORE_DAMAGED"


class HomeError(CholineDataError):
    """The operating system refuses to read or write in the home. `errno` and `path` are in the metadata."""

    reason = "HOME_UNUSABLE"


class MissingDependencyError(CholineDataError):
    """An optional library is not installed."""

    reason = "DEPENDENCY_MISSING"

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs a library that is not installed.",
            remedy=f"Install choline-data[{extra}].",
            extra=extra,
        )


class TransientError(CholineDataError):
    """The same request may succeed later."""

    reason = "TRANSIENT"


class UnavailableError(TransientError):
    """The server or the store can't be reached."""

    reason = "UNAVAILABLE"


class LimitError(TransientError):
    """A limit is reached. The message names its setting."""

    reason = "LIMIT_REACHED"


class ConflictError(TransientError):
    """Another writer made a conflicting change first."""

    reason = "CONFLICT"


def _tree(kind: type[CholineDataError]) -> Iterable[type[CholineDataError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def error_for_reason(reason: str) -> type[CholineDataError]:
    """Returns the class with this `reason`. `CholineDataError` for an unknown reason, which a newer peer may send."""
    return next((kind for kind in _tree(CholineDataError) if kind.reason == reason), CholineDataError)


def error_from_parts(reason: str, message: str, remedy: str, metadata: dict[str, str]) -> CholineDataError:
    """Rebuilds an error that a peer sent, in the class that has its `reason`."""
    return _rebuild(error_for_reason(reason), message, remedy, metadata)
