"""Many readers of one mix: data that they share are read from the origin once, however many readers there are."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from choline_data.client import FirehoseDataset
from choline_data.service.engine import CATALOG_SECONDS

MIX = {"web": 3, "code": 1}


class Origin(ThreadingHTTPServer):
    """A home over HTTP, as object storage gives it, that counts what it is asked for and how many bytes it sends."""

    request_queue_size = 256

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.calls: Counter[str] = Counter()
        self.sent = 0
        self.lock = threading.Lock()

    def handle_error(self, *_: Any) -> None:
        """Servers that end leave their connections."""

    @property
    def url(self) -> str:
        """Where the home is."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self._answer(404, b"", "")
            return
        whole = path.read_bytes()
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if not asked:
            self._answer(200, whole, "")
            return
        first, _, last = asked.partition("-")
        start = int(first) if first else len(whole) - int(last)
        stop = min(int(last) + 1, len(whole)) if first and last else len(whole)
        self._answer(206, whole[start:stop], f"bytes {start}-{stop - 1}/{len(whole)}")

    def _answer(self, status: int, body: bytes, content: str) -> None:
        with self.server.lock:
            self.server.calls[f"{self.command} {self.path}"] += 1
            self.server.sent += len(body)
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        if content:
            self.send_header("Content-Range", content)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def origin(home: str) -> Iterator[Origin]:
    """The small home of the service tests over HTTP."""
    server = Origin(Path(home))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


def consumers(address: str, count: int, *, ranks: bool) -> list[FirehoseDataset]:
    """So many readers of one mix that ends: each of the whole stream, or each a rank of one run."""
    place = [{"rank": n, "world_size": count} if ranks else {} for n in range(count)]
    return [FirehoseDataset(MIX, server=address, seed=3, batch_size=4, repeat=False, **its) for its in place]


def read_all(readers: list[FirehoseDataset]) -> int:
    """Samples that all readers together are given, step by step, until their streams end."""
    passes = [iter(reader) for reader in readers]
    count = 0
    while passes:
        batches = [(one, batch) for one in passes if (batch := next(one, None)) is not None]
        passes = [one for one, _ in batches]
        count += sum(len(batch["id"]) for _, batch in batches)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [False, True], ids=["whole", "ranks"])
def test_64_consumers_of_one_mix_read_the_origin_once(origin: Origin, serve: Any, ranks: bool):
    sent = {}
    for count in (1, 64):
        served = serve(origin.url)
        before = origin.sent
        assert read_all(consumers(served.address, count, ranks=ranks)) == 3700 * (1 if ranks else count)
        sent[count] = origin.sent - before
        assert served.terminate() == 0
    assert sent[1] > 1_000_000
    assert sent[64] <= 1.1 * sent[1]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "workers"), [(16, 0), (2, 2)])
def test_calls_to_the_origin_at_the_start_do_not_grow_with_ranks_or_workers(
    origin: Origin, serve: Any, ranks: int, workers: int
):
    data, asked, seconds = [], [], []
    for count, their in ((1, 0), (ranks, workers)):
        served = serve(origin.url)
        origin.calls, began = Counter(), time.monotonic()
        running = [iter(one.loader(num_workers=their)) for one in consumers(served.address, count, ranks=True)]
        assert all(len(next(one)["id"]) == 4 for one in running)
        seconds.append(time.monotonic() - began)
        data.append(sum(calls for path, calls in origin.calls.items() if "/catalog/" not in path))
        asked.append(origin.calls.total() - data[-1])
        del running
        assert served.terminate() == 0
    assert data[0] == data[1] > 10
    # The catalog is looked at every other second, whoever asks: four calls, and the snapshot's own.
    assert all(few <= 5 * (1 + its / CATALOG_SECONDS) for few, its in zip(asked, seconds, strict=True)), (
        asked,
        seconds,
    )


def test_what_the_catalog_of_a_remote_home_has_since_then_is_found_at_once(origin: Origin, serve: Any, shelf: Any):
    served = serve(origin.url)
    consumers(served.address, 1, ranks=False)
    shelf.add("late", {"text": ["a", "b"]})
    assert len(list(FirehoseDataset("late", server=served.address, repeat=False))) == 2
