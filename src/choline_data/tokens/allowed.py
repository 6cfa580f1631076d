"""Which tokenizers a request or a recipe may name: `bytes`, what the home stores by digest, and names that are allowed.

A name from elsewhere is never a path, and nothing is fetched for it: a server allows an encoding of tiktoken or a
tokenizer.json by name (`--tokenizer`), and reads the file itself when it starts.
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
    """The object of the home that is the tokenizer.json with this digest."""
    return f"tokenizers/{digest}.json"


@dataclass(frozen=True)
class Allowed:
    """The tokenizers that may be named. `encodings` allows every encoding of tiktoken, as a process does for its user."""

    named: Mapping[str, Tokenizer] = field(default_factory=dict)
    encodings: bool = True

    @classmethod
    def of(cls, flags: Iterable[str]) -> Allowed:
        """Those of a server's flags: `NAME=PATH` of a tokenizer.json, or `tiktoken:NAME`."""
        named = {}
        for flag in flags:
            name, sign, path = flag.partition("=")
            encoding = name.startswith(ENCODING)
            if not NAME.fullmatch(name) or name == "bytes" or DIGEST.fullmatch(name) or encoding == bool(sign):
                raise InvalidOptionError(
                    f"--tokenizer {flag[:80]!r} names no tokenizer.",
                    remedy="Such as gpt=/srv/gpt/tokenizer.json, or tiktoken:gpt2.",
                    option="tokenizer",
                )
            named[name] = Tokenizer(name) if encoding else Tokenizer(path)
            _ = named[name].vocabulary  # read now, so that a request waits for no file and no network
        return cls(named, encodings=False)

    def known(self, home: Home, digest: str, name: str = "") -> Tokenizer | None:
        """The tokenizer with this digest, which a recipe may call `name`; None where there is none."""
        named = self._by_name(name)
        if named is not None and named.digest == digest:
            return named
        for tokenizer in (Tokenizer("bytes"), *self.named.values()):
            if tokenizer.digest == digest:
                return tokenizer
        return stored_tokenizer(home, digest)

    @property
    def names(self) -> list[str]:
        """What a request may name."""
        return ["bytes", *sorted(self.named)]

    def _by_name(self, name: str) -> Tokenizer | None:
        if name == "bytes" or (self.encodings and name.startswith(ENCODING)):
            return Tokenizer(name)
        return self.named.get(name)

    def settled(self, home: Home, options: Mapping[str, str]) -> dict[str, str]:
        """The options of a tokens recipe whose tokenizer is its digest, from a request that may say a name instead.

        A name that is neither allowed nor known is an error, and says nothing of this machine's files.
        """
        out = dict(options)
        digest, name = out.get("tokenizer", ""), out.pop("tokenizer_name", "")
        if not DIGEST.fullmatch(digest):
            name, digest = digest or name, ""
        if not name and not digest:
            return out  # the view says what it needs
        if name and not NAME.fullmatch(name):
            raise InvalidOptionError(
                "A tokenizer is named by a word here, not by a path.",
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
            out["tokenizer_name"] = name  # an encoding that is not allowed: its stored tokens are served
        return out


def stored_tokenizer(home: Home, digest: str) -> Tokenizer | None:
    """The tokenizer.json that the home has under this digest; None where it has none, or another content."""
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
