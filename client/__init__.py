"""The client: a stream as a torch IterableDataset, read from a home in this process or from servers."""

from choline_data.client.dataset import FirehoseDataset
from choline_data.client.samples import collate

__all__ = ["FirehoseDataset", "collate"]
