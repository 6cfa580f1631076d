"""Hugging Face datasets: Parquet streamed with shuffle and interleave; tokens and images mapped from Arrow files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import BUFFER, RESUME_AT, ROWS_A_BATCH, SOURCES, TOKENS_A_ROW, Read, main, records, rgb, sources, split


def prepare(kind: str, corpus: Path, folder: Path) -> None:
    """Writes Parquet files of 10,000 documents for the stream, or a saved dataset for memory mapping."""
    import datasets
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, path in sources(corpus).items():
        held = list(records(path))
        if kind == "texts":
            for start in range(0, len(held), 10_000):
                texts = [data.decode() for data in held[start : start + 10_000]]
                pq.write_table(pa.table({"text": texts}), folder / f"{name}-{start:08d}.parquet", row_group_size=1000)
        elif kind == "images":
            kinds = datasets.Features({"image": datasets.Image(decode=False)})
            rows = {"image": [{"bytes": data, "path": None} for data in held]}
            datasets.Dataset.from_dict(rows, features=kinds).save_to_disk(folder / "saved")
        else:
            flat = np.frombuffer(b"\n".join(held), np.uint8).astype(np.uint16)
            whole = flat[: len(flat) // (TOKENS_A_ROW + 1) * (TOKENS_A_ROW + 1)].reshape(-1, TOKENS_A_ROW + 1)
            kinds = datasets.Features({"tokens": datasets.Sequence(datasets.Value("uint16"), length=TOKENS_A_ROW + 1)})
            datasets.Dataset.from_dict({"tokens": whole}, features=kinds).save_to_disk(folder / "saved")
    if corpus.name == "resume":
        _save_state(folder)


def _stream(folder: Path) -> Any:
    import datasets

    parts = []
    for name in SOURCES:
        files = sorted(str(path) for path in folder.glob(f"{name}-*.parquet"))
        part = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
        parts.append(part.shuffle(seed=0, buffer_size=BUFFER))
    return datasets.interleave_datasets(
        parts, probabilities=list(SOURCES.values()), seed=0, stopping_strategy="all_exhausted"
    )


def _save_state(folder: Path) -> None:
    """Saves the state from which resume is timed. The only way to get one is to read up to this position."""
    stream = _stream(folder)
    items = iter(stream)
    for _ in range(RESUME_AT):
        next(items)
    (folder / "state.json").write_text(json.dumps(stream.state_dict()))


def read(wanted: Read) -> Iterator[Any]:
    """The stream's items."""
    import datasets

    datasets.disable_progress_bars()
    if wanted.kind == "texts":
        stream = _stream(wanted.folder)
        if wanted.at:
            stream.load_state_dict(json.loads((wanted.folder / "state.json").read_text()))
        if wanted.workers or wanted.batch:
            from torch.utils.data import DataLoader

            return iter(DataLoader(stream, batch_size=wanted.batch, num_workers=wanted.workers, collate_fn=list))
        return iter(stream)
    saved = datasets.load_from_disk(str(wanted.folder / "saved"))
    if wanted.kind == "tokens":
        return _tokens(saved)
    return _images(saved, wanted)


def _tokens(saved: Any) -> Iterator[Any]:
    import numpy as np
    import torch

    rows = saved.with_format("torch")
    draw = np.random.default_rng(0)
    while True:
        order = draw.permutation(len(rows))
        for start in range(0, len(order) - ROWS_A_BATCH, ROWS_A_BATCH):
            made = rows[order[start : start + ROWS_A_BATCH].tolist()]["tokens"]
            yield split(made if isinstance(made, torch.Tensor) else torch.stack(made))


def _images(saved: Any, wanted: Read) -> Iterator[Any]:
    import datasets

    if wanted.decode:
        saved = saved.cast_column("image", datasets.Image(decode=True))
        saved = saved.with_transform(lambda rows: {"image": [rgb(image) for image in rows["image"]]})
    if wanted.workers:
        from torch.utils.data import DataLoader

        while True:
            yield from DataLoader(saved, batch_size=None, shuffle=True, num_workers=wanted.workers)
    import numpy as np

    draw = np.random.default_rng(0)
    if not wanted.lists:  # as in its guide: rows of a shuffled dataset, one by one
        saved = saved.shuffle(seed=0)
        while True:
            yield from saved
    while True:
        order = draw.permutation(len(saved))
        for start in range(0, len(order), 64):
            yield from saved[order[start : start + 64].tolist()]["image"]


if __name__ == "__main__":
    main(prepare, read, "torch datasets")
