"""Makes samples and batches from chunks of rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from choline_data.client.making import output_formats as formats
from choline_data.client.making.media_tensors import MediaTensors
from choline_data.client.making.samples import Batch, collate, sample_lists
from choline_data.client.making.training_shapes import TrainingShape
from choline_data.client.readers.reader import Chunk


@dataclass
class Maker:
    """Converts chunks to samples and batches, with the user's options."""

    datasets: tuple[str, ...]
    form: formats.OutputFormat | None = None
    decode: str | Callable[[bytes, str], Any] | None = None
    transform: Callable[[Any], Any] | None = None
    media: MediaTensors | None = None
    on_error: str = "raise"
    shape: TrainingShape | None = None

    @property
    def plain(self) -> bool:
        """Whether the samples stay as they are read."""
        return all(step is None for step in (self.decode, self.transform, self.media, self.shape))

    def lists(self, chunk: Chunk) -> Iterator[list[Any]]:
        """Yields the samples of a chunk, in lists of several samples."""
        if self.form is not None:
            return iter([self.form.samples(chunk, self.datasets)])
        return sample_lists(chunk, self.datasets)

    def samples(self, chunk: Chunk) -> Iterable[Any]:
        """Yields the samples of a chunk one by one."""
        return itertools.chain.from_iterable(self.lists(chunk))

    def batch(self, chunk: Chunk) -> Any:
        """Converts the chunk to one batch."""
        if self.form is not None:
            return self.form.batch(chunk, self.datasets)
        return Batch.of(chunk, self.datasets)

    def collate_samples(self, samples: list[Any]) -> Any:
        """Collates finished samples into one batch."""
        if self.form is not None:
            return self.form.collate(samples)
        if self.media is not None:
            return self.media.collate(samples)
        return collate(samples) if isinstance(samples[0], (dict, tuple)) else samples

    def finish(self, sample: Any) -> Any:
        """Decodes a sample, gives it the columns of its format, and transforms it."""
        if self.decode is not None:
            from choline_data.client.making.decoding import decode_media

            sample = decode_media(sample, self.decode)
        if self.media is not None:
            sample = self.media.sample(sample)
        if self.shape is not None:
            sample = self.shape.sample(sample)
        return sample if self.transform is None else self.transform(sample)
