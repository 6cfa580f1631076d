"""Any dataset, one schema, one stream: a catalog, a gRPC firehose and a PyTorch client with exact resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from choline_data.platforms import say_what_is_missing

if TYPE_CHECKING:
    from choline_data.client import FirehoseDataset as FirehoseDataset

say_what_is_missing()

__version__ = "0.1.0"
__all__ = ["FirehoseDataset", "__version__"]


def __getattr__(name: str) -> object:
    # torch and grpc take seconds to import. They are imported when `FirehoseDataset` is first used.
    if name == "FirehoseDataset":
        from choline_data.client import FirehoseDataset

        return FirehoseDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
