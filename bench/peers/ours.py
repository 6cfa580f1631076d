"""FirehoseDataset as a trainer uses it: of a home in this process, or of a server in another."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from common import ROWS_A_BATCH, SOURCES, TOKENS_A_ROW, Read, main, records, sources

FIELDS = {"texts": ["text"], "images": ["media"]}


def prepare(kind: str, corpus: Path, folder: Path) -> None:
    """Adds each source to a home with the `choline-data` command."""
    for name, path in sources(corpus).items():
        raw = folder / (f"{name}.jsonl" if kind != "images" else name)
        if kind == "images":
            raw.mkdir()
            for number, data in enumerate(records(path)):
                (raw / f"{number:06d}.jpg").write_bytes(data)
        else:
            with open(raw, "w") as file:
                file.writelines(json.dumps({"text": data.decode()}) + "\n" for data in records(path))
        _run("add", str(raw), "--name", name, "--yes", "--json", "--home", str(folder / "home"))
        if kind == "tokens":
            _run("tokenize", name, "--tokenizer", "bytes", "--home", str(folder / "home"))


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "choline_data", *words], check=True, stdout=subprocess.DEVNULL)


def read(wanted: Read) -> Iterator[Any]:
    """The stream's items."""
    from choline_data import FirehoseDataset

    options: dict[str, Any] = {"home": str(wanted.folder / "home")}
    if wanted.server:
        options = {"server": wanted.server}
    if wanted.kind == "tokens":
        return iter(
            FirehoseDataset(
                "web", view="tokens", format="nanogpt", seq_len=TOKENS_A_ROW, batch_size=ROWS_A_BATCH, **options
            )
        )
    mix: Any = SOURCES if wanted.kind == "texts" else "photos"
    if wanted.decode:
        options["decode"] = "torch"
    dataset = FirehoseDataset(mix, columns=FIELDS[wanted.kind], batch_size=wanted.batch, **options)
    if wanted.at:
        dataset.seek(wanted.at)
    items = iter(dataset.loader(num_workers=wanted.workers)) if wanted.workers else iter(dataset)
    return map(itemgetter(*FIELDS[wanted.kind]), items) if wanted.lists else items


if __name__ == "__main__":
    main(prepare, read, "torch choline_data.client.dataset grpc")
