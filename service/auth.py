"""Who may do what: tokens as sha256 in a file, each with its grants. Deny by default; one check for every face.

The token file is YAML:

    tokens:
      - id: trainers
        sha256: 2bb8…          # of the token; `python -m choline_data.service --new-token` makes one
        expires: 2027-01-01    # or a time; leave it out for never
        grants: {"web*": [list, describe, read], code: [read]}
      - id: eval
        certificate: eval-client   # the common name of a client certificate, with --client-ca
        grants: {"*": [list, describe]}

The file is read again when it changes, so a grant is taken back by an edit: open streams look again within
`recheck` seconds.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from choline_data.errors import (
    InvalidOptionError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownDatasetError,
)
from choline_data.service.audit import Asked
from choline_data.service.limits import Limits, reached

ACTIONS = ("list", "describe", "read")
_TOKEN_CHARS = 4096


@dataclass(frozen=True)
class Principal:
    """A holder of grants: patterns of dataset names, each with its actions."""

    id: str
    grants: tuple[tuple[str, frozenset[str]], ...]
    expires: float | None = None
    asked: Asked | None = field(default=None, compare=False)  # the request that it makes now

    def may(self, action: str, dataset: str) -> bool:
        """Whether a grant covers this action on this dataset. Names are compared exactly as they are."""
        return any(action in actions and fnmatch.fnmatchcase(dataset, pattern) for pattern, actions in self.grants)

    def visible(self, action: str, datasets: Iterable[str]) -> list[str]:
        """The names that this action is granted on."""
        return [name for name in datasets if self.may(action, name)]


ANYONE = Principal("anyone", (("*", frozenset(ACTIONS)),))


def check_read(principal: Principal, datasets: Iterable[str], known: Iterable[str]) -> None:
    """Refuses where one of the datasets may not be read: as if it were not there, unless it may be listed."""
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


def _file_error(path: str, what: str) -> InvalidOptionError:
    return InvalidOptionError(
        f"Token file {os.path.basename(path)}: {what}.",
        remedy="docs/serving.md shows one.",
        option="token_file",
    )


class TokenFile:
    """The principals of a token file, as it is now."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._by_digest: dict[str, Principal] = {}
        self._by_certificate: dict[str, Principal] = {}
        self.refresh(strict=True)

    def refresh(self, *, strict: bool = False) -> None:
        """Reads the file again where it has changed. A file that can't be read any more grants nothing."""
        try:
            at = os.stat(self._path)
            stamp = (at.st_mtime_ns, at.st_size, at.st_ino)
            if stamp == self._stamp:
                return
            with open(self._path, encoding="utf-8") as file:
                text = file.read(4 << 20)
            self._take(text)
            self._stamp = stamp
        except (OSError, UnicodeDecodeError, InvalidOptionError) as error:
            self._by_digest, self._by_certificate, self._stamp = {}, {}, None
            if strict:
                if isinstance(error, InvalidOptionError):
                    raise
                raise _file_error(self._path, "it can't be read") from error

    def reload(self) -> None:
        """Reads the file again even where its size and time are as they were."""
        self._stamp = None
        self.refresh()

    def _take(self, text: str) -> None:
        import yaml

        try:
            body = yaml.safe_load(text)
            tokens = body["tokens"]
            read = [self._principal(token) for token in tokens]
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise _file_error(self._path, "it is not the YAML of one") from error
        by_digest: dict[str, Principal] = {}
        by_certificate: dict[str, Principal] = {}
        for token, principal in zip(tokens, read, strict=True):
            if "sha256" in token:
                by_digest[str(token["sha256"]).lower()] = principal
            if "certificate" in token:
                by_certificate[str(token["certificate"])] = principal
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
                raise _file_error(self._path, f"actions are {', '.join(ACTIONS)}")
            grants.append((str(pattern), wanted))
        return Principal(str(token["id"]), tuple(grants), _seconds(token.get("expires")))

    def of_token(self, token: str) -> Principal | None:
        """The holder of this token. Compares with every digest, in constant time."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for known, principal in self._by_digest.items():
            if hmac.compare_digest(known, digest):
                found = principal
        return found if found is not None and _current(found) else None

    def of_certificate(self, name: str) -> Principal | None:
        """The holder of a client certificate with this common name."""
        found = self._by_certificate.get(name)
        return found if found is not None and _current(found) else None


def _seconds(expires: object) -> float | None:
    if expires is None:
        return None
    if isinstance(expires, str):
        expires = datetime.fromisoformat(expires)
    if isinstance(expires, datetime):
        return (expires if expires.tzinfo else expires.replace(tzinfo=UTC)).timestamp()
    if isinstance(expires, date):
        return datetime(expires.year, expires.month, expires.day, tzinfo=UTC).timestamp()
    raise ValueError("expires is a date or a time")


def _current(principal: Principal) -> bool:
    return principal.expires is None or time.time() < principal.expires


class Gate:
    """Finds the principal behind a request. Without a token file everyone on this machine is `ANYONE`."""

    def __init__(self, token_file: str, limits: Limits) -> None:
        self._tokens = TokenFile(token_file) if token_file else None
        self._limits = limits
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def admit(self, authorizations: list[str], certificates: Iterable[str], peer: str) -> Principal:
        """The principal of a request; UnauthenticatedError, which does not say why, for all others."""
        if self._tokens is None:
            return ANYONE
        self._tokens.refresh()
        failures = self._recent(peer)
        if len(failures) >= self._limits.auth_failures:
            raise reached("auth_failures", self._limits.auth_failures, "Too many bad tokens from this address.")
        if len(authorizations) == 1:
            scheme, _, token = authorizations[0].partition(" ")
            if scheme.lower() == "bearer" and 0 < len(token) <= _TOKEN_CHARS:
                found = self._tokens.of_token(token.strip())
                if found is not None:
                    return found
        elif not authorizations:
            for name in certificates:
                found = self._tokens.of_certificate(name)
                if found is not None:
                    return found
        if authorizations:
            failures.append(time.monotonic())
        raise UnauthenticatedError(
            "The request has no valid token.", remedy="Send it as `authorization: Bearer TOKEN`."
        )

    def reload(self) -> None:
        """Reads the token file again, whether it looks changed or not."""
        if self._tokens is not None:
            self._tokens.reload()

    def _recent(self, peer: str) -> list[float]:
        """The failures of an address in the last minute; ports of one address count together."""
        address = peer.rpartition(":")[0]
        failures = self._failures.setdefault(address, [])
        self._failures.move_to_end(address)
        failures[:] = [at for at in failures if at > time.monotonic() - 60]
        while len(self._failures) > 4096:
            self._failures.popitem(last=False)
        return failures
