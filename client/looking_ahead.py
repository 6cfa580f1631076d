"""Looks ahead of the dataset's position without moving it: the next samples, and the rows of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from choline_data.client.passing.passes import join_chunks
from choline_data.client.readers.reader import Chunk
from choline_data.errors import InvalidOptionError
from choline_data.mix.rows_of_steps import explain

if TYPE_CHECKING:
    from choline_data.client.dataset import FirehoseDataset


def peeked(dataset: FirehoseDataset, size: int) -> Any:
    """Returns a batch of the next `size` samples of the stream. They may lie in several passes."""
    length, start, epoch = dataset.length, dataset._standing.start, dataset.epoch
    stop, make, chunks = start + size, dataset._maker(), []
    while start < stop:
        passes, first = (0, start) if length is None else divmod(start, length)
        count = stop - start if length is None else min(stop - start, length - first)
        positions = np.arange(first, first + count, dtype=np.int64)
        reader = dataset._source.reader(dataset._pass_of(epoch + passes))
        chunks.append(Chunk(reader.at(positions.tolist()), positions))
        start += count
    chunk = join_chunks(chunks)
    return make.batch(chunk) if make.plain else make.collate_samples([make.finish(s) for s in make.samples(chunk)])


def explained(dataset: FirehoseDataset, step: int, epoch: int) -> list[dict[str, Any]]:
    """Returns dataset, revision, row and epoch of each sample of all ranks in a step of this pass."""
    if dataset.batch_tokens is not None:
        raise InvalidOptionError(
            "With batch_tokens, the position of step N depends on the samples before it.",
            remedy="Ask a dataset without batch_tokens: its step N is position N.",
            option="batch_tokens",
        )
    world, batch = dataset._share_here().world, dataset.batch_size or 1
    size, length = world * batch, dataset.length
    stop = (step + 1) * size if length is None else min((step + 1) * size, length)
    return explain(dataset.recipe.in_pass(dataset._pass_of(epoch)), step * size, stop, batch=batch, world=world)
