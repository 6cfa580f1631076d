"""`format="tensor"`: images of one size and sound of one sampling rate, for vision and speech training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from choline_data.client.making.decoding import image_of, sound_of
from choline_data.client.making.samples import collate
from choline_data.errors import DataError, InvalidOptionError, SourceDamagedError

MOST_PIXELS_A_SIDE = 8192
RATES = (1000, 192_000)
_ZEROS = 16  # number of zero crossings of the filter on each side
_ROLLOFF = 0.95


@dataclass(frozen=True)
class MediaTensors:
    """The settings with which the first image and the first recording of a sample become tensors. Picklable."""

    size: tuple[int, int] | None = None  # the height and width of images
    rate: int | None = None

    @classmethod
    def of(cls, size: object, rate: object) -> MediaTensors:
        """Builds the value from the user's options. Raises InvalidOptionError if they are missing or invalid."""
        if size is None and rate is None:
            raise InvalidOptionError(
                'format="tensor" needs size or rate.',
                remedy="Set size=224 (or (height, width)) for images, rate=16000 for sound, or both.",
                option="format",
            )
        pair = (size, size) if type(size) is int else size
        if pair is not None and not (
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and all(type(side) is int and 1 <= side <= MOST_PIXELS_A_SIDE for side in pair)
        ):
            raise InvalidOptionError(
                f"size is {size!r}.", remedy=f"Give one number, or (height, width), up to {MOST_PIXELS_A_SIDE}."
            )
        if rate is not None and (type(rate) is not int or not RATES[0] <= rate <= RATES[1]):
            raise InvalidOptionError(f"rate is {rate!r}.", remedy=f"Give samples per second, {RATES[0]} to {RATES[1]}.")
        return cls(None if pair is None else (pair[0], pair[1]), rate)

    def sample(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the sample with the fields `image` and `audio` (tensors) instead of its media."""
        media = sample.get("media") or ()
        out = {name: value for name, value in sample.items() if name != "media"}
        if self.size is not None:
            out["image"] = pixels(_first(media, "image/", sample), *self.size)
        if self.rate is not None:
            out["audio"] = mono(*sound_of(_first(media, "audio/", sample)), self.rate)
        return out

    def collate(self, samples: Sequence[Mapping[str, Any]]) -> Any:
        """Collates samples into one batch. Sound is padded with zeros; `audio_length` has the lengths before padding."""
        if self.rate is None or not all(isinstance(s, dict) and "audio" in s for s in samples):
            return collate(samples) if isinstance(samples[0], (dict, tuple)) else list(samples)
        import torch

        sounds = [sample["audio"] for sample in samples]
        out = collate([{**sample, "audio": 0} for sample in samples])
        out["audio"] = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True)
        out["audio_length"] = torch.tensor([len(sound) for sound in sounds])
        return out


def _first(media: Sequence[Mapping[str, Any]], kind: str, sample: Mapping[str, Any]) -> bytes:
    for medium in media:
        if (medium.get("mime") or "").startswith(kind) and medium.get("data") is not None:
            return bytes(medium["data"])
    raise DataError(
        f"Position {sample.get('position')} of {sample.get('dataset')} has no {kind.rstrip('/')}.",
        remedy='Set on_error="skip" to leave it out.',
    )


def pixels(data: bytes, height: int, width: int) -> Any:
    """Returns an image as float32 [3, height, width], 0 to 1. It is scaled to fill this size, and its center is
    cropped.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    image = image_of(data)
    try:
        image.draft("RGB", (width, height))  # decodes a JPEG at the smallest sufficient size
        fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError) as error:
        raise SourceDamagedError(
            "An image is truncated or damaged.", remedy='Set on_error="skip" to leave it out.'
        ) from error
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous().float() / 255


def mono(sound: Any, rate: int, to: int) -> Any:
    """Returns a recording as float32 [ceil(frames * to / rate)]: the mean of its channels, resampled from `rate` to the
    rate `to`.
    """
    import torch

    one = sound.mean(0)
    if rate == to or not len(one):
        return one
    divisor = math.gcd(rate, to)
    down, up = rate // divisor, to // divisor
    kernel, reach = _kernel(down, up)
    length = -(-len(one) * up // down)
    padded = torch.nn.functional.pad(one[None, None], (reach, reach + down))
    return torch.nn.functional.conv1d(padded, kernel, stride=down)[0].T.reshape(-1)[:length].contiguous()


@lru_cache(maxsize=8)
def _kernel(down: int, up: int) -> tuple[Any, int]:
    """Returns (kernels, reach). An output frame lies at one of `up` places between two input frames. `kernels` has a
    low-pass filter for each of these places, and `reach` is the number of input frames on each side that a filter uses.
    """
    import torch

    cut = min(down, up) * _ROLLOFF  # the cut-off frequency, in units of the common rate
    reach = math.ceil(_ZEROS * down / cut)
    frames = torch.arange(-reach, reach + down, dtype=torch.float64)[None] / down
    places = torch.arange(0, -up, -1, dtype=torch.float64)[:, None] / up
    time = ((frames + places) * cut).clamp(-_ZEROS, _ZEROS)
    window = torch.cos(time * math.pi / _ZEROS / 2) ** 2
    kernel = torch.sinc(time) * window * (cut / down)
    return kernel.float()[:, None], reach
