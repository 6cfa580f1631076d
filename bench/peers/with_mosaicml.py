"""MosaicML streaming: MDS shards on disk, two streams by proportion, its own shuffle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import ROWS_A_BATCH, SOURCES, TOKENS_A_ROW, Read, main, records, rgb_of, sources, split


def _imported() -> Any:
    """The package. It imports torchvision, whose wheels lack two operators with a CPU torch. Nothing here calls them."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    library.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import streaming

    streaming.torchvision_operators = library  # keeps it alive as long as the package
    return streaming


def prepare(kind: str, corpus: Path, folder: Path) -> None:
    """Writes the documents as uncompressed MDS shards of the default size."""
    import numpy as np

    streaming = _imported()
    column = {"texts": ("text", "str"), "images": ("image", "bytes"), "tokens": ("tokens", "ndarray:uint16:2049")}[kind]
    for name, path in sources(corpus).items():
        with streaming.MDSWriter(out=str(folder / name), columns=dict([column])) as writer:
            if kind == "tokens":
                flat = np.frombuffer(b"\n".join(records(path)), np.uint8).astype(np.uint16)
                for start in range(0, len(flat) - TOKENS_A_ROW, TOKENS_A_ROW + 1):
                    writer.write({"tokens": flat[start : start + TOKENS_A_ROW + 1]})
            else:
                for data in records(path):
                    writer.write({column[0]: data.decode() if kind == "texts" else data})


def read(wanted: Read) -> Iterator[Any]:
    """The stream's items, repeated without end."""
    streaming = _imported()
    streaming.base.util.clean_stale_shared_memory()
    size = wanted.batch or (ROWS_A_BATCH if wanted.kind == "tokens" else 64)
    options: dict[str, Any] = {"shuffle": True, "batch_size": size}
    if wanted.kind == "texts":
        streams = [
            streaming.Stream(local=str(wanted.folder / name), proportion=share) for name, share in SOURCES.items()
        ]
        options["streams"] = streams
    else:
        options["local"] = str(wanted.folder / ("web" if wanted.kind == "tokens" else "photos"))
    dataset = streaming.StreamingDataset(**options)
    if wanted.at:
        state = dataset.state_dict(0, True)
        dataset.load_state_dict({**state, "sample_in_epoch": wanted.at} if state else _state(wanted.at))
    return _items(dataset, wanted)


def _state(at: int) -> dict[str, Any]:
    return {
        "epoch": 0,
        "sample_in_epoch": at,
        "num_canonical_nodes": 1,
        "shuffle_seed": 9176,
        "initial_physical_nodes": 1,
    }


def _items(dataset: Any, wanted: Read) -> Iterator[Any]:
    import numpy as np
    import torch
    from torch.utils.data import DataLoader

    def decoded(rows: list[Any]) -> list[Any]:
        return [rgb_of(row["image"]) for row in rows]

    def tokens(rows: list[Any]) -> Any:
        return split(torch.from_numpy(np.stack([row["tokens"] for row in rows]).astype(np.int64)))

    while True:
        if wanted.kind == "tokens":
            yield from DataLoader(dataset, batch_size=ROWS_A_BATCH, num_workers=wanted.workers, collate_fn=tokens)
        elif wanted.decode and wanted.workers:
            for rows in DataLoader(dataset, batch_size=8, num_workers=wanted.workers, collate_fn=decoded):
                yield from rows
        elif wanted.decode:
            yield from (rgb_of(row["image"]) for row in dataset)
        elif wanted.workers or wanted.batch:
            made = DataLoader(dataset, batch_size=wanted.batch or 64, num_workers=wanted.workers, collate_fn=list)
            if wanted.batch:
                yield from made
            else:
                for rows in made:
                    yield from rows
        else:
            yield from dataset


if __name__ == "__main__":
    main(prepare, read, "torch")
