"""Media as trainers want them: a PIL image (decoded when it is first used) or a torch tensor."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from choline_data.errors import MissingDependencyError, SourceDamagedError, SourceTooLargeError

MOST_PIXELS = 178_956_970  # Pillow's own bound on what may be a decompression bomb


def decoded(sample: Mapping[str, Any], to: str) -> dict[str, Any]:
    """The sample with `decoded` in each of its media: images for "pil"; images and audio as tensors for "torch"."""
    media = sample.get("media")
    if not media:
        return dict(sample)
    return {**sample, "media": [_medium(medium, to) for medium in media]}


def _medium(medium: Mapping[str, Any], to: str) -> dict[str, Any]:
    data, mime = medium.get("data"), medium.get("mime") or ""
    if data is None:
        return {**medium, "decoded": None}
    if mime.startswith("image/"):
        image = image_of(data)
        return {**medium, "decoded": image if to == "pil" else _pixels(image)}
    if mime.startswith("audio/") and to == "torch":
        sound, rate = sound_of(data)
        return {**medium, "decoded": sound, "rate": rate}
    return {**medium, "decoded": None}


def image_of(data: bytes) -> Any:
    """A PIL image, which decodes when it is first used."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingDependencyError("image", "Decoding images") from error
    try:
        image = Image.open(io.BytesIO(data))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise SourceDamagedError("An image can't be decoded.", remedy='Set on_error="skip" to leave it out.') from error
    except Image.DecompressionBombError as error:
        raise SourceTooLargeError("An image claims too many pixels.", remedy='Set on_error="skip".') from error
    if image.width * image.height > MOST_PIXELS:
        raise SourceTooLargeError("An image claims too many pixels.", remedy='Set on_error="skip".')
    return image


def _pixels(image: Any) -> Any:
    """Channels, height, width; uint8 RGB."""
    import numpy as np
    import torch

    try:
        array = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise SourceDamagedError(
            "An image is cut or damaged.", remedy='Set on_error="skip" to leave it out.'
        ) from error
    # NumPy's transposition: torch's wakes its threads for each image, which costs several times as much.
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def sound_of(data: bytes) -> tuple[Any, int]:
    """Channels, frames; float32; and the sampling rate."""
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
