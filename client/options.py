"""Options of a FirehoseDataset that depend on each other: checked together, refused with what to set instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from choline_data.client.media_tensors import MediaTensors
from choline_data.errors import InvalidMixError, InvalidOptionError


def budgeted(batch_size: int | None, tokens: object, view: str, seq_len: int | None) -> tuple[int | None, int | None]:
    """The batch size, and the budget of tokens where samples of their own lengths share it."""
    if tokens is None:
        return batch_size, None
    if type(tokens) is not int or tokens < 1 or batch_size is not None:
        raise InvalidOptionError(
            f"batch_tokens is {tokens!r}, batch_size {batch_size!r}.",
            remedy="Give one of them, a whole number above 0.",
            option="batch_tokens",
        )
    if view != "tokens":
        return None, tokens
    if tokens < (seq_len or 1024):
        raise InvalidOptionError(
            f"batch_tokens is {tokens!r}, less than one row of {seq_len or 1024}.",
            remedy="Give more, or a smaller seq_len.",
            option="batch_tokens",
        )
    return tokens // (seq_len or 1024), None


def media_tensors(form: str | None, view: str, size: object, rate: object, decode: str | None) -> MediaTensors | None:
    """What `format="tensor"` makes; None for every other format."""
    if form != "tensor":
        if size is not None or rate is not None:
            raise InvalidOptionError("size and rate are of tensors.", remedy='Set format="tensor".', option="format")
        return None
    if view != "samples" or decode is not None:
        raise InvalidOptionError(
            'format="tensor" makes tensors of the media of samples.',
            remedy='Leave view and decode unset, or use decode="torch" for tensors of each medium\'s own size.',
            option="format",
        )
    return MediaTensors.of(size, rate)


def one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """InvalidOptionError for what is not allowed."""
    if value not in allowed:
        raise InvalidOptionError(
            f"{name} is {value!r}.", remedy=f"It can be {', '.join(map(repr, allowed))}.", option=name
        )


def weighted(mix: object, weights: Sequence[object] | None, probabilities: Sequence[object] | None) -> object:
    """The mix with weights that came beside it."""
    given = weights if weights is not None else probabilities
    if given is None:
        return mix
    if weights is not None and probabilities is not None:
        raise InvalidOptionError("weights and probabilities are two names for one thing.", remedy="Give one of them.")
    if isinstance(mix, (str, bytes, Mapping)) or not isinstance(mix, Sequence) or len(mix) != len(given):
        raise InvalidMixError(
            "weights go with a list of as many names.",
            remedy='Or write the mix as {"web": 0.7, "code": 0.3}.',
        )
    return dict(zip(mix, given, strict=True))
