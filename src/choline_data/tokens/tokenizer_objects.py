"""Accepts tokenizers as objects of the libraries tokenizers, transformers and tiktoken."""

from __future__ import annotations

import os
import sys
from typing import Any

from choline_data.errors import InvalidOptionError
from choline_data.tokens.tokenizers import Tokenizer

_REMEDY = "Name `bytes`, a tokenizer.json or `tiktoken:NAME`, or pass a Tokenizer of the library tokenizers."


def tokenizer_of(value: Any) -> Tokenizer:
    """Returns the tokenizer for a name, a path, or an object.

    The object is a `tokenizers.Tokenizer`, a fast tokenizer of transformers, or an encoding that `tiktoken.get_encoding`
    returned. Raises InvalidOptionError for another object.
    """
    if isinstance(value, Tokenizer):
        return value
    if isinstance(value, str | os.PathLike):
        return Tokenizer(os.fspath(value))
    engine = getattr(value, "backend_tokenizer", value)
    tokenizers, tiktoken = sys.modules.get("tokenizers"), sys.modules.get("tiktoken")
    if tokenizers is not None and isinstance(engine, tokenizers.Tokenizer):
        return Tokenizer("an object", engine.to_str().encode())
    if tiktoken is not None and isinstance(value, tiktoken.Encoding):
        return _of_tiktoken(value, tiktoken)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise InvalidOptionError(f"A {kind} can't be used as a tokenizer.", remedy=_REMEDY, option="tokenizer")


def _of_tiktoken(encoding: Any, tiktoken: Any) -> Tokenizer:
    # A user may give an encoding the name of a known encoding, but other tokens. So the objects are compared, not their
    # names.
    if encoding.name in tiktoken.list_encoding_names() and tiktoken.get_encoding(encoding.name) is encoding:
        return Tokenizer(f"tiktoken:{encoding.name}")
    raise InvalidOptionError(
        f"The encoding {encoding.name!r} is not one of tiktoken's own.",
        remedy="Convert it to a tokenizer.json.",
        option="tokenizer",
    )
