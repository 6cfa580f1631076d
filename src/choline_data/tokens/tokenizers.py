"""Tokenizers: bytes (built in), a `tokenizer.json` of the tokenizers library, or an encoding of tiktoken by name."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from choline_data.errors import (
    InvalidOptionError,
    MissingDependencyError,
    SourceNotFoundError,
    SourceTooLargeError,
    UnavailableError,
)

Tokens = npt.NDArray[np.uint32]
FILE_BYTES = 128 << 20  # limit for a tokenizer.json; the largest known ones have about 40 MiB
BOUNDARIES = ("eos", "bos", "bos+eos", "none")

# Names of end-of-text and begin-of-text tokens, the most specific first.
_EOS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eos|>", "[SEP]", "<|im_end|>")
_BOS = ("<|startoftext|>", "<s>", "<|begin_of_text|>", "<bos>", "<|bos|>", "[CLS]", "<|endoftext|>")


def check_boundary(boundary: str) -> None:
    """Raises InvalidOptionError if this is not one of BOUNDARIES."""
    if boundary not in BOUNDARIES:
        raise InvalidOptionError(
            f"There is no boundary token setting {boundary[:40]!r}.", remedy=f"There are: {', '.join(BOUNDARIES)}."
        )


def file_content(path: str) -> bytes:
    """Returns the content of a tokenizer.json, a regular file of at most `FILE_BYTES`. Never blocks on a FIFO or a device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise SourceNotFoundError(
                f"There is no tokenizer {path!r}.",
                remedy="Name `bytes`, a path to a tokenizer.json, or `tiktoken:NAME` such as tiktoken:gpt2.",
            ) from error
        raise InvalidOptionError(
            f"The tokenizer {path!r} can't be read.", remedy="Name a tokenizer.json that this user may read."
        ) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidOptionError(f"{path} is not a regular file.", remedy="Name a tokenizer.json.")
    with os.fdopen(fd, "rb") as file:
        content = file.read(FILE_BYTES + 1)
    if len(content) > FILE_BYTES:
        raise SourceTooLargeError(
            f"{path} has more than {FILE_BYTES >> 20} MiB.", remedy="Name a tokenizer.json.", setting="FILE_BYTES"
        )
    return content


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer, named `bytes`, by a path to a `tokenizer.json`, or by `tiktoken:NAME`. Picklable.

    `content` is the content of a `tokenizer.json` that does not come from a file. Then `name` is only for display.
    """

    name: str = "bytes"
    content: bytes | None = field(default=None, repr=False)

    @cached_property
    def raw(self) -> bytes:
        """The content of the `tokenizer.json`. The file is read only once."""
        return file_content(self.name) if self.content is None else self.content

    @property
    def kind(self) -> str:
        """The kind of the tokenizer: `bytes`, `tiktoken` or `file`."""
        if self.content is not None:
            return "file"
        if self.name == "bytes":
            return "bytes"
        return "tiktoken" if self.name.startswith("tiktoken:") else "file"

    @cached_property
    def digest(self) -> str:
        """The sha256 of the `tokenizer.json`, or of the name for `bytes` and tiktoken. Copies of one file have the same
        digest.
        """
        if self.kind == "file":
            return hashlib.sha256(self.raw).hexdigest()
        return hashlib.sha256(self.name.encode()).hexdigest()

    @cached_property
    def _engine(self) -> Any:
        return _encoding(self.name) if self.kind == "tiktoken" else _from_json(self.raw, os.path.basename(self.name))

    def __getstate__(self) -> dict[str, Any]:
        """Returns the name, and the content of a file for pickling, because the file may change before another process
        reads it.
        """
        return {"name": self.name, "content": self.raw if self.kind == "file" else None}

    @cached_property
    def vocabulary(self) -> int:
        """The size of the vocabulary: all token ids are below this number."""
        if self.kind == "bytes":
            return 258
        if self.kind == "tiktoken":
            return int(self._engine.n_vocab)
        # ids may have gaps, so the largest id decides, not the number of ids
        return max(self._engine.get_vocab(with_added_tokens=True).values(), default=0) + 1

    def _special(self, names: Sequence[str], what: str) -> int:
        if self.kind == "bytes":
            return 256 if what == "eos" else 257
        if self.kind == "tiktoken":
            return int(self._engine.eot_token)
        for name in names:
            token = self._engine.token_to_id(name)
            if token is not None:
                return int(token)
        raise InvalidOptionError(
            f"The tokenizer has no {what} token with a known name.", remedy='Choose boundary="none".'
        )

    def boundary(self, boundary: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the tokens before and after each document."""
        check_boundary(boundary)
        before = (self._special(_BOS, "bos"),) if "bos" in boundary else ()
        after = (self._special(_EOS, "eos"),) if "eos" in boundary else ()
        return before, after

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Returns the token ids of each text. Adds no special tokens (boundary tokens come from `boundary`)."""
        if self.kind == "bytes":
            return [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts]
        if self.kind == "tiktoken":
            return [
                np.asarray(ids, np.uint32) for ids in self._engine.encode_ordinary_batch(list(texts), num_threads=2)
            ]
        engine = self._engine
        try:
            encoded = engine.encode_batch_fast(list(texts), add_special_tokens=False)
        except BaseException as error:
            if not _is_fault(error):
                raise
            raise InvalidOptionError(
                f"{os.path.basename(self.name)} fails on a text: {type(error).__name__}.",
                remedy="Use another tokenizer.json.",
            ) from error
        return [np.asarray(one.ids, np.uint32) for one in encoded]


def _is_fault(error: BaseException) -> bool:
    """Returns whether this error is a failure of the tokenizers library. A panic of its Rust code is not an
    `Exception`.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _encoding(name: str) -> Any:
    """Returns an encoding of tiktoken. Tiktoken downloads it at the first use on a machine."""
    try:
        import tiktoken
    except ModuleNotFoundError as error:
        raise MissingDependencyError("tokenize", "Tokenizing with tiktoken") from error
    plain = name.removeprefix("tiktoken:")
    if plain not in tiktoken.list_encoding_names():
        raise InvalidOptionError(
            f"tiktoken has no encoding {plain[:80]!r}.", remedy=f"It has {', '.join(tiktoken.list_encoding_names())}."
        )
    try:
        return tiktoken.get_encoding(plain)
    except Exception as error:
        raise UnavailableError(
            f"tiktoken could not load the encoding {plain!r}.",
            remedy="tiktoken downloads an encoding at its first use. Check the network, or set TIKTOKEN_CACHE_DIR to a "
            "folder that has it.",
        ) from error


def _from_json(raw: bytes, shown: str) -> Any:
    """Returns the tokenizer in this `tokenizer.json`. Raises InvalidOptionError if the content is invalid, or if it
    truncates or pads texts.
    """
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise MissingDependencyError("tokenize", "Tokenizing") from error
    try:
        engine = tokenizers.Tokenizer.from_str(raw.decode())
        changes = [what for what in ("truncation", "padding") if getattr(engine, what) is not None]
    except BaseException as error:
        if not _is_fault(error):
            raise
        raise InvalidOptionError(
            f"{shown} is not a tokenizer.json.", remedy="Save it with the tokenizers library."
        ) from error
    if changes:
        raise InvalidOptionError(
            f"{shown} has {' and '.join(changes)} switched on. Tokens would be lost or added.",
            remedy="Load it with the tokenizers library, call no_truncation() and no_padding(), and save it.",
        )
    return engine
