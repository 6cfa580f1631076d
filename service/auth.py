"""Who may do what: a file has the sha256 and the grants of each token. Everything else is denied, over gRPC, Flight and HTTP alike.

The token file is YAML:

    tokens:
      - id: trainers
        sha256: 2bb8…          # of the token; `python -m choline_data.service --new-token` makes a token
        expires: 2027-01-01    # or a time; leave it out for never
        grants: {"web*": [list, describe, read], code: [read]}
      - id: eval
        certificate: eval-client   # the common name of a client certificate, with --client-ca
        grants: {"*": [list, describe]}

The file is read again when it changes, so an edit can revoke a grant: open streams check their grants again within
`recheck` seconds. If the file can't be read any more, or if others may write it, the grants of the last good version stay
in force, and the log says so. To revoke every grant, write `tokens: []`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import logging
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from choline_data.errors import (
    DataError,
    InvalidOptionError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownDatasetError,
)
from choline_data.service.audit import RequestRecord
from choline_data.service.limits import Limits, limit_error
from choline_data.service.peers import network_of

LOG = logging.getLogger("choline_data.service")
ACTIONS = ("list", "describe", "read")
_TOKEN_CHARS = 4096
_FILE_BYTES = 4 << 20


@dataclass(frozen=True)
class Principal:
    """The holder of a token or certificate, with its grants: patterns of dataset names, each with its actions."""

    id: str
    grants: tuple[tuple[str, frozenset[str]], ...]
    expires: float | None = None
    asked: RequestRecord | None = field(default=None, compare=False)  # the current request of this principal

    def may(self, action: str, dataset: str) -> bool:
        """Returns whether a grant allows this action on this dataset. Patterns are those of `fnmatch`; upper and lower
        case differ.
        """
        return any(action in actions and fnmatch.fnmatchcase(dataset, pattern) for pattern, actions in self.grants)

    def visible(self, action: str, datasets: Iterable[str]) -> list[str]:
        """Returns the names of the datasets for which this action is granted."""
        return [name for name in datasets if self.may(action, name)]


ANYONE = Principal("anyone", (("*", frozenset(ACTIONS)),))


def check_read(principal: Principal, datasets: Iterable[str], known: Iterable[str]) -> None:
    """Raises if the principal may not read one of the datasets.

    The error is PermissionDeniedError if the principal may list or describe the dataset. Otherwise it is UnknownDatasetError, as
    if the dataset did not exist.
    """
    for name in sorted(set(datasets)):
        if principal.may("read", name):
            continue
        if principal.may("list", name) or principal.may("describe", name):
            raise PermissionDeniedError(
                f"The token does not grant reading {name!r}.",
                remedy="Ask the server's operator for it.",
                dataset=name,
            )
        raise UnknownDatasetError(name, principal.visible("list", known))


def _file_error(path: str, what: str, remedy: str = "docs/serving.md shows one.") -> InvalidOptionError:
    return InvalidOptionError(f"Token file {os.path.basename(path)}: {what}.", remedy=remedy, option="token_file")


Stamp = tuple[int, ...]


class TokenFile:
    """The principals of a token file, from the last valid version of the file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: Stamp | None = None  # the stamp of the version that was read last, whether it was valid or not
        self._by_digest: dict[str, Principal] = {}
        self._by_certificate: dict[str, Principal] = {}
        self._seen, text = self._read()
        self._take(text)

    def refresh(self) -> None:
        """Reads the file again if it has changed. A bad file changes nothing, and is logged once."""
        seen: Stamp = ()
        try:
            seen = _stamp(os.stat(self._path))
            if seen == self._seen:
                return
            seen, text = self._read()
            self._take(text)
        except (OSError, InvalidOptionError) as error:
            if seen != self._seen:
                why = error.message if isinstance(error, InvalidOptionError) else _unreadable(self._path).message
                LOG.error("%s The grants stay as they were before the change.", why)
        else:
            LOG.info("The token file was read again.")
        self._seen = seen

    def reload(self) -> None:
        """Reads the file again even if its size and times have not changed."""
        self._seen = None
        self.refresh()

    def _read(self) -> tuple[Stamp, str]:
        """Returns the file's stamp and text. Raises InvalidOptionError if the file can't be read, is too long, may be written by
        others, or is not a regular file.
        """
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                at = os.fstat(fd)
                _check_owner(self._path, at)
                raw = file.read(_FILE_BYTES + 1)
            text = raw.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(self._path) from error
        if len(raw) > _FILE_BYTES:
            raise _file_error(self._path, f"it has more than {_FILE_BYTES >> 20} MiB", "Split it over several servers.")
        return _stamp(at), text

    def _take(self, text: str) -> None:
        from choline_data.places.yaml_safe import safe_load

        try:
            tokens = safe_load(text, os.path.basename(self._path))["tokens"]
            read = [self._principal(token) for token in tokens]
        except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
            line = f": {error.message}" if isinstance(error, DataError) else ""
            raise _file_error(self._path, f"it is not a token file in YAML{line}") from error
        by_digest: dict[str, Principal] = {}
        by_certificate: dict[str, Principal] = {}
        for token, principal in zip(tokens, read, strict=True):
            for key, principals in (("sha256", by_digest), ("certificate", by_certificate)):
                name = str(token.get(key, "")).lower() if key == "sha256" else str(token.get(key, ""))
                if key in token and name in principals:
                    raise _file_error(
                        self._path, f"two entries have the {key} of {principal.id!r}", "Make one entry of them."
                    )
                if key in token:
                    principals[name] = principal
        self._by_digest, self._by_certificate = by_digest, by_certificate

    def _principal(self, token: Mapping[str, Any]) -> Principal:
        unknown = set(token) - {"id", "sha256", "certificate", "grants", "expires"}
        digest = token.get("sha256")
        if unknown or not ({"sha256", "certificate"} & set(token)):
            raise _file_error(self._path, "a token has id, sha256 or certificate, grants and expires")
        if digest is not None and (len(str(digest)) != 64 or set(str(digest).lower()) - set("0123456789abcdef")):
            raise _file_error(self._path, "a sha256 has 64 hexadecimal digits")
        grants = []
        for pattern, actions in dict(token.get("grants") or {}).items():
            wanted = frozenset([actions] if isinstance(actions, str) else actions)
            if not wanted <= set(ACTIONS):
                raise _file_error(self._path, f"the actions of a grant are {', '.join(ACTIONS)}")
            grants.append((str(pattern), wanted))
        return Principal(str(token["id"]), tuple(grants), _seconds(token.get("expires")))

    def of_token(self, token: str) -> Principal | None:
        """Returns the principal with this token, or None. Compares with all digests, each in constant time, so that the
        time does not reveal a token.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        holder = None
        for known, principal in self._by_digest.items():
            if hmac.compare_digest(known, digest):
                holder = principal
        return holder if holder is not None and _current(holder) else None

    def of_certificate(self, name: str) -> Principal | None:
        """Returns the principal of a client certificate with this common name, or None."""
        principal = self._by_certificate.get(name)
        return principal if principal is not None and _current(principal) else None


def _stamp(at: os.stat_result) -> Stamp:
    return at.st_mtime_ns, at.st_ctime_ns, at.st_size, at.st_ino


def _unreadable(path: str) -> InvalidOptionError:
    return _file_error(path, "it can't be read", "Name a file of text that this user may read.")


def _check_owner(path: str, at: os.stat_result) -> None:
    """Refuses a file that another user could have written or replaced: that user could grant anything."""
    name = os.path.abspath(path)
    if not stat.S_ISREG(at.st_mode):
        raise _file_error(path, "it is not a regular file", "Name a file.")
    if at.st_uid not in (0, os.geteuid()):
        raise _file_error(
            path, "it belongs to another user", f"As root: `chown {os.geteuid()} {name}`, or serve as its owner."
        )
    if at.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _file_error(path, "others may write it", f"Run `chmod go-w {name}`.")
    folder = os.path.dirname(os.path.realpath(path))
    above = os.stat(folder)
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise _file_error(
            path, "others may replace it, because they may write its folder", f"Run `chmod o-w {folder}`."
        )


def _seconds(expires: object) -> float | None:
    if expires is None:
        return None
    if isinstance(expires, str):
        expires = _moment(expires)
    if isinstance(expires, datetime):
        return (expires if expires.tzinfo else expires.replace(tzinfo=UTC)).timestamp()
    if isinstance(expires, date):
        return datetime(expires.year, expires.month, expires.day, tzinfo=UTC).timestamp()
    raise ValueError("expires is a date or a time")


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.strptime(text, "%Y-%m-%d")


def _current(principal: Principal) -> bool:
    return principal.expires is None or time.time() < principal.expires


class Gate:
    """Finds the principal of a request. Without a token file, every request has the principal `ANYONE`."""

    def __init__(self, token_file: str, limits: Limits) -> None:
        self._tokens = TokenFile(token_file) if token_file else None
        self._limits = limits
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def admit(self, authorizations: list[str], certificates: Iterable[str], peer: str) -> Principal:
        """Returns the principal that sent a request. Raises UnauthenticatedError, without a reason, if the token is not valid.

        Raises LimitError if the address has sent too many bad tokens.
        """
        if self._tokens is None:
            return ANYONE
        self._tokens.refresh()
        principal = self._found(self._tokens, authorizations, certificates)
        if principal is not None:
            return principal
        if authorizations:
            self._count(peer)
        raise UnauthenticatedError(
            "The request has no valid token.", remedy="Send it as `authorization: Bearer TOKEN`."
        )

    @staticmethod
    def _found(tokens: TokenFile, authorizations: list[str], certificates: Iterable[str]) -> Principal | None:
        if len(authorizations) == 1:
            scheme, _, token = authorizations[0].partition(" ")
            if scheme.lower() == "bearer" and 0 < len(token) <= _TOKEN_CHARS:
                return tokens.of_token(token.strip())
        elif not authorizations:
            for name in certificates:
                principal = tokens.of_certificate(name)
                if principal is not None:
                    return principal
        return None

    def reload(self) -> None:
        """Reads the token file again, even if it looks unchanged."""
        if self._tokens is not None:
            self._tokens.reload()

    def _count(self, peer: str) -> None:
        """Counts a bad token of an address.

        Raises LimitError after `auth_failures` bad tokens in a minute. Good tokens are never limited.
        """
        address = network_of(peer)
        failures = self._failures.setdefault(address, [])
        self._failures.move_to_end(address)
        failures[:] = [at for at in failures if at > time.monotonic() - 60]
        while len(self._failures) > 4096:
            self._failures.popitem(last=False)
        if len(failures) >= self._limits.auth_failures:
            raise limit_error("auth_failures", self._limits.auth_failures, "Too many bad tokens from this address.")
        failures.append(time.monotonic())
