"""tf.data service: TFRecord files, shuffled in a buffer and mixed by its dispatcher and workers in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain, count, islice
from operator import methodcaller
from pathlib import Path
from typing import Any

from common import BUFFER, CORES, SOURCES, Read, main, records, sources

A_FILE = 10_000  # documents
OVER_THE_WIRE = 64
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def prepare(kind: str, corpus: Path, folder: Path) -> None:
    """Writes TFRecord files of 10,000 documents. A record is a document, so the reader parses nothing."""
    import tensorflow as tf

    if kind != "texts":
        raise SystemExit(f"tf.data service is measured on texts alone, not {kind}.")
    for name, path in sources(corpus).items():
        held = records(path)
        for number in count():
            documents = list(islice(held, A_FILE))
            if not documents:
                break
            with tf.io.TFRecordWriter(str(folder / f"{name}-{number:04d}.tfrecord")) as writer:
                for data in documents:
                    writer.write(data)


def serve() -> None:
    """Runs a dispatcher and one worker per core until standard input closes, which happens when the reader ends."""
    import tensorflow as tf

    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    workers = [service.WorkerServer(service.WorkerConfig(dispatcher_address=address)) for _ in range(CORES)]
    print(dispatcher.target, flush=True)
    sys.stdin.read()
    del workers  # kept alive until here, because a garbage-collected worker stops
    os._exit(0)  # a normal exit would wait for threads of the dispatcher


def _served() -> str:
    """Starts a service for this reader. Returns its address."""
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    target = server.stdout.readline().strip()
    if not target:
        raise SystemExit("The tf.data service did not start; what it said is above.")
    _servers.append(server)
    return target


_servers: list[subprocess.Popen[str]] = []  # kept alive: garbage collection would close the pipe and end the server


def read(wanted: Read) -> Iterator[Any]:
    """The stream's items: lists of bytes. Single documents are taken from such lists, which is its fastest way."""
    import tensorflow as tf

    def part(name: str) -> Any:
        files = tf.data.Dataset.list_files(str(wanted.folder / f"{name}-*.tfrecord"))  # in a different order each time
        return tf.data.TFRecordDataset(files).shuffle(BUFFER).repeat()

    mixed = tf.data.Dataset.sample_from_datasets([part(n) for n in SOURCES], list(SOURCES.values()))
    service = tf.data.experimental.service
    # On two cores: one worker per core, no compression, one thread that reads files, no prefetch in the reader.
    there = service.distribute(service.ShardingPolicy.OFF, _served(), compression=None)
    stream = mixed.batch(wanted.batch or OVER_THE_WIRE).prefetch(tf.data.AUTOTUNE).apply(there)
    batches = map(methodcaller("tolist"), stream.as_numpy_iterator())
    return batches if wanted.batch else chain.from_iterable(batches)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main(prepare, read, "tensorflow")
