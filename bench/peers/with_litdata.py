"""LitData: optimized chunks on disk, shuffled, combined by weight; tokens by its TokensLoader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from common import RESUME_AT, ROWS_A_BATCH, SOURCES, TOKENS_A_ROW, Read, main, records, rgb_of, sources, split


def _documents(path: str, kind: str) -> Iterator[Any]:
    if kind == "tokens":
        import numpy as np
        import torch

        for data in records(Path(path)):
            yield torch.from_numpy(np.frombuffer(data + b"\n", np.uint8).astype(np.uint16))
    else:
        for data in records(Path(path)):
            yield {"text": data.decode()} if kind == "texts" else {"image": data}


def prepare(kind: str, corpus: Path, folder: Path) -> None:
    """Writes the documents as chunks of 64 MB, as in its guide."""
    import litdata

    for name, path in sources(corpus).items():
        loader = {"item_loader": litdata.TokensLoader()} if kind == "tokens" else {}
        litdata.optimize(
            fn=partial(_documents, kind=kind),
            inputs=[str(path)],
            output_dir=str(folder / name),
            chunk_bytes="64MB",
            num_workers=1,
            **loader,
        )
    if corpus.name == "resume":
        loader = litdata.StreamingDataLoader(_mixed(folder), batch_size=50, collate_fn=list)
        for _ in islice(loader, RESUME_AT // 50):
            pass
        (folder / "state.json").write_text(json.dumps(loader.state_dict()))


def _mixed(folder: Path) -> Any:
    import litdata

    parts = [litdata.StreamingDataset(str(folder / name), shuffle=True, seed=0) for name in SOURCES]
    return litdata.CombinedStreamingDataset(parts, weights=list(SOURCES.values()), iterate_over_all=False, seed=0)


def _decoded(row: dict[str, Any]) -> Any:
    return rgb_of(row["image"])


def read(wanted: Read) -> Iterator[Any]:
    """The stream's items, repeated without end except after a resume."""
    import litdata

    if wanted.kind == "texts":
        dataset: Any = _mixed(wanted.folder)
        if wanted.at:
            loader = litdata.StreamingDataLoader(dataset, batch_size=50, collate_fn=list)
            loader.load_state_dict(json.loads((wanted.folder / "state.json").read_text()))
            return iter(loader)
    elif wanted.kind == "tokens":
        dataset = litdata.StreamingDataset(
            str(wanted.folder / "web"), item_loader=litdata.TokensLoader(TOKENS_A_ROW + 1), shuffle=True, seed=0
        )
    else:
        options = {"transform": _decoded} if wanted.decode else {}
        dataset = litdata.StreamingDataset(str(wanted.folder / "photos"), shuffle=True, seed=0, **options)
    return _items(dataset, wanted)


def _items(dataset: Any, wanted: Read) -> Iterator[Any]:
    import litdata
    import torch

    while True:
        if wanted.kind == "tokens" and not wanted.workers:
            rows: list[Any] = []
            for row in dataset:
                rows.append(row)
                if len(rows) == ROWS_A_BATCH:
                    yield split(torch.stack(rows))
                    rows = []
        elif wanted.kind == "tokens":
            for made in litdata.StreamingDataLoader(dataset, batch_size=ROWS_A_BATCH, num_workers=wanted.workers):
                yield split(made)
        elif wanted.workers or wanted.batch:
            size = wanted.batch or 8
            made = litdata.StreamingDataLoader(dataset, batch_size=size, num_workers=wanted.workers, collate_fn=list)
            if wanted.batch:
                yield from made
            else:
                for held in made:
                    yield from held
        else:
            yield from dataset


if __name__ == "__main__":
    main(prepare, read, "torch litdata")
