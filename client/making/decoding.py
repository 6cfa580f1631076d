"""Decodes media to PIL images (which decode at their first use), to torch tensors, or with a function of the user."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from choline_data.errors import MissingDependencyError, SourceDamagedError, SourceTooLargeError

MOST_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs


Decoder = Callable[[bytes, str], Any]  # takes the bytes of a medium and its MIME type


def decode_media(sample: Mapping[str, Any], to: str | Decoder) -> dict[str, Any]:
    """Adds a field `decoded` to each medium of the sample.

    Its value is a PIL image for "pil", a tensor of the image or audio for "torch", and otherwise what the function `to`
    returns.
    """
    media = sample.get("media")
    if not media:
        return dict(sample)
    return {**sample, "media": [_medium(medium, to) for medium in media]}


def _medium(medium: Mapping[str, Any], to: str | Decoder) -> dict[str, Any]:
    data, mime = medium.get("data"), medium.get("mime") or ""
    if data is None:
        return {**medium, "decoded": None}
    if not isinstance(to, str):
        return {**medium, "decoded": to(data, mime)}
    if mime.startswith("image/"):
        image = image_of(data)
        return {**medium, "decoded": image if to == "pil" else _pixels(image)}
    if mime.startswith("audio/") and to == "torch":
        sound, rate = sound_of(data)
        return {**medium, "decoded": sound, "rate": rate}
    return {**medium, "decoded": None}


def image_of(data: bytes) -> Any:
    """Opens a PIL image. The image decodes itself at its first use."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingDependencyError("image", "Decoding images") from error
    try:
        image = Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise SourceDamagedError("An image can't be decoded.", remedy='Set on_error="skip" to leave it out.') from error
    except Image.DecompressionBombError as error:
        raise SourceTooLargeError(
            "The header of an image states too many pixels.", remedy='Set on_error="skip".'
        ) from error
    if image.width * image.height > MOST_PIXELS:
        raise SourceTooLargeError("The header of an image states too many pixels.", remedy='Set on_error="skip".')
    return image


def _pixels(image: Any) -> Any:
    """Converts the image to a uint8 RGB tensor [3, height, width]."""
    import numpy as np
    import torch

    try:
        array = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise SourceDamagedError(
            "An image is truncated or damaged.", remedy='Set on_error="skip" to leave it out.'
        ) from error
    # NumPy transposes. torch would wake its threads for each image, which takes several times as long.
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def sound_of(data: bytes) -> tuple[Any, int]:
    """Decodes a recording. Returns a float32 tensor [channels, frames] and the sampling rate."""
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise MissingDependencyError("audio", "Decoding audio") from error
    import torch

    try:
        frames, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise SourceDamagedError(
            "A recording can't be decoded.", remedy='Set on_error="skip" to leave it out.'
        ) from error
    return torch.from_numpy(frames.T.copy()), int(rate)
