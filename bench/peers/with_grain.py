"""grain: ArrayRecord files, shuffled by index, mixed by weight, read by its threads or worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import CORES, ROWS_A_BATCH, SOURCES, TOKENS_A_ROW, Read, main, records, sources


def prepare(kind: str, corpus: Path, folder: Path) -> None:
    """Writes one ArrayRecord file per source, with one record per group for fast random access."""
    import numpy as np
    from array_record.python.array_record_module import ArrayRecordWriter

    for name, path in sources(corpus).items():
        writer = ArrayRecordWriter(str(folder / f"{name}.arrayrecord"), "group_size:1,uncompressed")
        if kind == "tokens":
            flat = np.frombuffer(b"\n".join(records(path)), np.uint8).astype(np.uint16)
            for start in range(0, len(flat) - TOKENS_A_ROW, TOKENS_A_ROW + 1):
                writer.write(flat[start : start + TOKENS_A_ROW + 1].tobytes())
        else:
            for data in records(path):
                writer.write(data)
        writer.close()


def _tokens(data: bytes) -> Any:
    import numpy as np

    return np.frombuffer(data, np.uint16).astype(np.int64)


def _pixels(data: bytes) -> Any:
    """Like `rgb_of`, but returns a NumPy array, because grain has no tensors."""
    import io

    import numpy as np
    from PIL import Image

    return np.ascontiguousarray(np.array(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1))


def _split(rows: Any) -> Any:
    return rows[:, :-1], rows[:, 1:]


def read(wanted: Read) -> Iterator[Any]:
    """The stream's items."""
    import grain

    def part(name: str) -> Any:
        held = grain.sources.ArrayRecordDataSource(str(wanted.folder / f"{name}.arrayrecord"))
        return grain.MapDataset.source(held).seed(0).shuffle()

    if wanted.kind == "texts":
        mixed = grain.MapDataset.mix([part(n) for n in SOURCES], weights=list(SOURCES.values())).map(bytes.decode)
    elif wanted.kind == "tokens":
        mixed = part("web").map(_tokens).batch(ROWS_A_BATCH, drop_remainder=True).map(_split)
    else:
        mixed = part("photos").map(_pixels) if wanted.decode else part("photos")
    if wanted.batch:
        mixed = mixed.batch(wanted.batch, batch_fn=list)
    # The default of 16 threads is for remote files. On local files, one thread per core was fastest here.
    ahead = grain.ReadOptions(num_threads=CORES, prefetch_buffer_size=16 if wanted.batch else 500)
    stream = mixed.repeat().to_iter_dataset(ahead)
    if wanted.workers:
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=wanted.workers))
    items = iter(stream)
    if wanted.at:
        items.set_state({**items.get_state(), "next_index": wanted.at})
    return items


if __name__ == "__main__":
    main(prepare, read, "grain")
