"""The client: a stream as a torch IterableDataset, read from a home in this process or from servers."""

from choline_data.errors import MissingDependencyError

try:
    from choline_data.client.dataset import FirehoseDataset
    from choline_data.client.making.samples import collate
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "torch":
        raise
    raise MissingDependencyError("torch", "FirehoseDataset") from missing

__all__ = ["FirehoseDataset", "collate"]
