"""Which tokenizers a request or a recipe may name: `bytes`, those that the home stores by digest, and allowed names.

A name in a request is never used as a path, and nothing is fetched for it. A server allows an encoding of tiktoken or a
tokenizer.json by name (`--tokenizer`), and reads the file when it starts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from choline_data.errors import InvalidOptionError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.tokens.tokenizers import FILE_BYTES, Tokenizer

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
DIGEST = re.compile(r"[0-9a-f]{64}")
ENCODING = "tiktoken:"


def stored_name(digest: str) -> str:
    """Returns the name of the object in the home that holds the tokenizer.json with this digest."""
    return f"tokenizers/{digest}.json"


@dataclass(frozen=True)
class Allowed:
    """The tokenizers that a request or a recipe may name. With `encodings`, every encoding of tiktoken may be named, as
    in a process that works for its own user.
    """

    named: Mapping[str, Tokenizer] = field(default_factory=dict)
    encodings: bool = True

    @classmethod
    def of(cls, flags: Iterable[str]) -> Allowed:
        """Returns the tokenizers that a server's `--tokenizer` flags allow: `NAME=PATH` of a tokenizer.json, or
        `tiktoken:NAME`.
        """
        named = {}
        for flag in flags:
            name, sign, path = flag.partition("=")
            encoding = name.startswith(ENCODING)
            if not NAME.fullmatch(name) or name == "bytes" or DIGEST.fullmatch(name) or encoding == bool(sign):
                raise InvalidOptionError(
                    f"--tokenizer {flag[:80]!r} is neither NAME=PATH nor tiktoken:NAME.",
                    remedy="For example gpt=/srv/gpt/tokenizer.json, or tiktoken:gpt2.",
                    option="tokenizer",
                )
            named[name] = Tokenizer(name) if encoding else Tokenizer(path)
            # the tokenizer is loaded now, so that no request waits for a file or the network
            _ = named[name].vocabulary
        return cls(named, encodings=False)

    def known(self, home: Home, digest: str, name: str = "") -> Tokenizer | None:
        """Returns the tokenizer with this digest if it is allowed or stored in the home, else None. `name` is the name
        that the recipe uses for it.
        """
        named = self._by_name(name)
        if named is not None and named.digest == digest:
            return named
        for tokenizer in (Tokenizer("bytes"), *self.named.values()):
            if tokenizer.digest == digest:
                return tokenizer
        return stored_tokenizer(home, digest)

    @property
    def names(self) -> list[str]:
        """The names that a request may use."""
        return ["bytes", *sorted(self.named)]

    def _by_name(self, name: str) -> Tokenizer | None:
        if name == "bytes" or (self.encodings and name.startswith(ENCODING)):
            return Tokenizer(name)
        return self.named.get(name)

    def settled(self, home: Home, options: Mapping[str, str]) -> dict[str, str]:
        """Converts the options of a request to the options of a tokens recipe: the name of the tokenizer is replaced by
        its digest.

        A name that is neither allowed nor known is an error. The error reveals nothing about this machine's files.
        """
        out = dict(options)
        digest, name = out.get("tokenizer", ""), out.pop("tokenizer_name", "")
        if not DIGEST.fullmatch(digest):
            name, digest = digest or name, ""
        if not name and not digest:
            return out  # the view raises an error that lists the options it needs
        if name and not NAME.fullmatch(name):
            raise InvalidOptionError(
                "On a server, a tokenizer is named by its name or digest. A path is not allowed.",
                remedy="Name `bytes`, a name that the server allows, or the sha256 of a tokenizer.json.",
                option="tokenizer",
            )
        named = self._by_name(name)
        if named is None and not digest:
            raise InvalidOptionError(
                f"There is no tokenizer {name!r} here.",
                remedy=f"There are: {', '.join(self.names)}.",
                option="tokenizer",
            )
        if named is not None and digest in ("", named.digest):
            out["tokenizer"] = named.digest
            if named.kind != "file":
                out["tokenizer_name"] = named.name
        elif digest == hashlib.sha256(name.encode()).hexdigest():
            # This encoding is not allowed, so the server makes no new tokens with it. It serves stored tokens.
            out["tokenizer_name"] = name
        return out


def stored_tokenizer(home: Home, digest: str) -> Tokenizer | None:
    """Returns the tokenizer.json that the home stores under this digest.

    Returns None if it is missing or its content has another digest.
    """
    if not DIGEST.fullmatch(digest):
        return None
    name = stored_name(digest)
    try:
        if not home.exists(name) or home.size(name) > FILE_BYTES:
            return None
        content = home.read(name)
    except (OSError, SourceNotFoundError):
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        return None
    return Tokenizer(digest[:12], content)
