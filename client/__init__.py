"""The client: a torch IterableDataset that reads a stream from a local home or from servers."""

from choline_data.errors import MissingDependencyError

try:
    from choline_data.client.dataset import FirehoseDataset
    from choline_data.client.making.samples import collate
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "torch":
        raise
    raise MissingDependencyError("torch", "FirehoseDataset") from missing

__all__ = ["FirehoseDataset", "collate"]
