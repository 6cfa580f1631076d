"""A map-style view of a dataset, for samplers that use indexes. Item i is the sample at position i of the stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from choline_data.client.readers.reader import Chunk

if TYPE_CHECKING:
    from choline_data.client.dataset import FirehoseDataset


class FirehoseMap(Dataset):  # type: ignore[misc]
    """A map-style view of a dataset. It ignores ranks: a sampler must divide the indexes among them."""

    def __init__(self, dataset: FirehoseDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        length = self.dataset.length
        if length is None:
            raise TypeError("This dataset has no end, so it has no length: set max_samples or repeat=False.")
        return length

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indexes: Sequence[int]) -> list[Any]:
        """Returns the samples at these positions, in one read."""
        length = self.dataset.length
        positions = [int(i) + length if length is not None and i < 0 else int(i) for i in indexes]
        if any(p < 0 or (length is not None and p >= length) for p in positions):
            raise IndexError(f"There are {length} samples.")
        make = self.dataset._maker()
        batch = self.dataset._source.reader().at(positions)
        samples = make.samples(Chunk(batch, np.asarray(positions, dtype=np.int64)))
        return list(samples if make.plain else [make.finish(sample) for sample in samples])
