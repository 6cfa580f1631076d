"""webdataset: tar shards on disk, shuffled in a buffer, mixed by RandomMix."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from common import BUFFER, SOURCES, Read, main, records, rgb, sources

A_SHARD = 10_000


def prepare(kind: str, corpus: Path, folder: Path) -> None:
    """Writes the documents as shards of 10,000."""
    end = "txt" if kind == "texts" else "jpg"
    for name, path in sources(corpus).items():
        held = records(path)
        for shard in count():
            documents = list(islice(held, A_SHARD))
            if not documents:
                break
            with tarfile.open(folder / f"{name}-{shard:04d}.tar", "w") as tar:
                for number, data in enumerate(documents):
                    info = tarfile.TarInfo(f"{shard:04d}{number:06d}.{end}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def read(wanted: Read) -> Iterator[Any]:
    """The stream's items. Texts are decoded to strings, and images to tensors if requested."""
    import webdataset as wds

    def part(name: str) -> Any:
        shards = sorted(str(path) for path in wanted.folder.glob(f"{name}-*.tar"))
        made = wds.WebDataset(shards, shardshuffle=len(shards), repeat=True, empty_check=False).shuffle(BUFFER)
        if wanted.kind == "texts":
            return made.decode()
        return made.decode("pil").map_dict(jpg=rgb) if wanted.decode else made

    names = list(SOURCES) if wanted.kind == "texts" else ["photos"]
    mixed: Any = wds.RandomMix([part(n) for n in names], list(SOURCES.values())) if len(names) > 1 else part(names[0])
    if wanted.workers or wanted.batch:
        mixed = wds.WebLoader(
            mixed, batch_size=wanted.batch, num_workers=wanted.workers, collate_fn=list if wanted.batch else None
        )
    return iter(mixed)


if __name__ == "__main__":
    main(prepare, read, "torch webdataset")
