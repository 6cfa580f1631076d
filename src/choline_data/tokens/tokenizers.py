"""Tokenizers: bytes (built in), a `tokenizer.json` of the tokenizers library, or an encoding of tiktoken by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from choline_data.errors import InvalidOptionError, MissingDependencyError, SourceNotFoundError

Tokens = npt.NDArray[np.uint32]
BOUNDARIES = ("eos", "bos", "bos+eos", "none")

# The names that tokenizers give the end of a text, and its begin, most telling first.
_EOS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|eos|>", "[SEP]", "<|im_end|>")
_BOS = ("<|startoftext|>", "<s>", "<|begin_of_text|>", "<bos>", "<|bos|>", "[CLS]", "<|endoftext|>")


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer by name: `bytes`, a path to a `tokenizer.json`, or `tiktoken:NAME`. Picklable."""

    name: str = "bytes"

    @cached_property
    def _raw(self) -> bytes:
        try:
            with open(self.name, "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise SourceNotFoundError(
                f"There is no tokenizer {self.name!r}.",
                remedy="Name `bytes`, a path to a tokenizer.json, or `tiktoken:NAME` such as tiktoken:gpt2.",
            ) from error

    @property
    def kind(self) -> str:
        """bytes, tiktoken or file."""
        if self.name == "bytes":
            return "bytes"
        return "tiktoken" if self.name.startswith("tiktoken:") else "file"

    @cached_property
    def digest(self) -> str:
        """Names the tokenizer by its content, so that two paths of one file are one tokenizer."""
        if self.kind == "file":
            return hashlib.sha256(self._raw).hexdigest()
        return hashlib.sha256(self.name.encode()).hexdigest()

    @cached_property
    def _engine(self) -> Any:
        if self.kind == "tiktoken":
            try:
                import tiktoken
            except ModuleNotFoundError as error:
                raise MissingDependencyError("tokenize", "Tokenizing with tiktoken") from error
            try:
                return tiktoken.get_encoding(self.name.removeprefix("tiktoken:"))
            except ValueError as error:
                raise InvalidOptionError(f"tiktoken has no encoding {self.name[9:]!r}.") from error
        try:
            import tokenizers
        except ModuleNotFoundError as error:
            raise MissingDependencyError("tokenize", "Tokenizing") from error
        try:
            return tokenizers.Tokenizer.from_str(self._raw.decode())
        except Exception as error:
            raise InvalidOptionError(
                f"{os.path.basename(self.name)} is not a tokenizer.json.", remedy="Save it with the tokenizers library."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name}

    @cached_property
    def vocabulary(self) -> int:
        """Token ids are below this."""
        if self.kind == "bytes":
            return 258
        return int(self._engine.n_vocab) if self.kind == "tiktoken" else int(self._engine.get_vocab_size())

    def _special(self, names: Sequence[str], what: str) -> int:
        if self.kind == "bytes":
            return 256 if what == "eos" else 257
        if self.kind == "tiktoken":
            return int(self._engine.eot_token)
        for name in names:
            found = self._engine.token_to_id(name)
            if found is not None:
                return int(found)
        raise InvalidOptionError(
            f"The tokenizer has no {what} token that is known here.", remedy='Choose boundary="none".'
        )

    def boundary(self, boundary: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens before and after each document."""
        if boundary not in BOUNDARIES:
            raise InvalidOptionError(f"No boundary {boundary!r}.", remedy=f"There are: {', '.join(BOUNDARIES)}.")
        before = (self._special(_BOS, "bos"),) if "bos" in boundary else ()
        after = (self._special(_EOS, "eos"),) if "eos" in boundary else ()
        return before, after

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """The token ids of each text, without special tokens; ids that the text itself spells stay text."""
        if self.kind == "bytes":
            return [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts]
        if self.kind == "tiktoken":
            return [
                np.asarray(ids, np.uint32) for ids in self._engine.encode_ordinary_batch(list(texts), num_threads=2)
            ]
        encoded = self._engine.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(one.ids, np.uint32) for one in encoded]
