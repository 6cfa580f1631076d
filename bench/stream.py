"""Measures speed, fairness and memory of the server, beside a bare pyarrow Flight server that sends the same kind of batches.

    python bench/stream.py [--gb 0.5] [--row 2400] [--json]

One run on loopback. Both servers are read with `pyarrow.flight`, so that only the servers differ. CPU is measured for the
server process. The mix has two shuffled datasets with documents of 2.4 KB (`--row`); no message is encoded in advance.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

from choline_data import schema as one
from choline_data.mix import resolve_mix
from choline_data.order.recipe import Recipe
from choline_data.places.home import Home
from choline_data.store import BlockWriter, Catalog, Entry, Manifest, StoredFile
from choline_data.store.revision import manifest_name
from choline_data.store.windows import Store
from choline_data.views import open_stream

ROW = 2400
MESSAGE = 1 << 20
SLOW_MESSAGE = 64 << 10
TICK = os.sysconf("SC_CLK_TCK")


def documents(seed: int, rows: int, row: int) -> pa.RecordBatch:
    """Yields rows of about `row` bytes each."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(row // 2, row * 3 // 2, rows)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    data = draw.integers(97, 123, int(offsets[-1]), dtype=np.uint8)
    text = pa.LargeStringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(data))
    ids = pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(draw.bytes(16 * rows))])
    origin = pa.StructArray.from_arrays(
        [pa.array(["bench"] * rows), pa.array(range(rows), pa.int64())], fields=list(one.ORIGIN)
    )
    return pa.record_batch([ids, text, origin], schema=one.stored_schema(["text"]))


def make_home(folder: str, size: float, row: int = ROW) -> Home:
    """Returns a home with two datasets of about `size` bytes together."""
    home = Home(folder)
    for number, (name, share) in enumerate((("web", 0.7), ("code", 0.3))):
        writer = BlockWriter(home, one.stored_schema(["text"]), 512)
        for part in range(max(int(size * share / row / 16384), 1)):
            writer.write(documents(number << 20 | part, 16384, row))
        written = writer.close()
        assert written is not None
        manifest = Manifest(
            (StoredFile(written.sha256, written.rows, written.bytes),), ("text",), 512, {"kind": "text"}
        )
        home.create(manifest_name(manifest.revision), manifest.encode())
        Catalog(home).publish(Entry(name, manifest.revision, "text", manifest.rows, manifest.bytes))
    return home


def make_shards(folder: str, shards: int) -> Home:
    """Returns a home with one dataset of very many shards. Only its manifest exists."""
    home = Home(folder)
    files = tuple(StoredFile(f"{n:064x}", 4096, 4 << 20, f"part-{n}") for n in range(shards))
    manifest = Manifest(files, ("text",), 512, {"kind": "text"})
    home.create(manifest_name(manifest.revision), manifest.encode())
    Catalog(home).publish(Entry("big", manifest.revision, "text", manifest.rows, manifest.bytes))
    return home


class Process:
    """A server process: its address, its CPU time and its memory."""

    def __init__(self, *argv: str) -> None:
        began = time.monotonic()
        self.process = subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        self.address, self.metrics = ready["address"], ready.get("metrics", "")
        self.ready_seconds = time.monotonic() - began

    def cpu(self) -> float:
        """Returns the CPU seconds that the server has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def rss(self) -> int:
        """Returns the resident bytes of the server."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))

    def sent(self) -> float:
        """Returns the bytes that the server has sent so far, from its metrics."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith("choline_bytes_total"))

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def ours(home: Home, *flags: str) -> Process:
    """Starts a `choline-data serve` process."""
    argv = (
        "-m",
        "choline_data.service",
        "--home",
        home.location,
        "--json",
        "--limit",
        f"message_bytes={MESSAGE}",
    )
    return Process(*argv, *flags)


class Bare(flight.FlightServerBase):  # type: ignore[misc]  # the stubs of pyarrow have no Flight
    """The ceiling: prepared batches in memory, and pyarrow's own Flight server."""

    def __init__(self, home: Home) -> None:
        super().__init__("grpc://127.0.0.1:0")
        stream = open_stream(Store(home), resolve_mix("web:0.7,code:0.3", home, repeat=False))
        rows = max(int(MESSAGE // stream.mean_row_bytes()), 1)
        self._batches = [stream.read(at, at + rows) for at in range(0, (stream.length or 0) - rows, rows)]
        self._schema = stream.wire_schema

    def do_get(self, context: Any, ticket: flight.Ticket) -> flight.GeneratorStream:
        """Sends all batches."""
        del context, ticket
        return flight.GeneratorStream(self._schema, iter(self._batches))


async def serve_prepared(size: int) -> None:
    """Runs an asyncio server that sends the same message again and again. It shows the basic cost of gRPC in Python."""
    import grpc

    body = os.urandom(size)

    async def read(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        for _ in range(1000):
            await context.write(body)

    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    methods = {"Read": grpc.unary_stream_rpc_method_handler(read)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Prepared", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await server.wait_for_termination()


def receive(address: str) -> int:
    """Reads the whole stream of the `serve_prepared` server. Returns its bytes."""
    import grpc

    with grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
        return sum(map(len, channel.unary_stream("/bench.Prepared/Read")(b"")))


def drain(address: str, ticket: flight.Ticket, seconds: float = 0, count: list[int] | None = None) -> tuple[int, float]:
    """Reads a stream to its end, or for about `seconds`. Returns its bytes and the time."""
    size = 0
    with flight.connect(f"grpc://{address}") as client:
        began = time.monotonic()
        reader = client.do_get(ticket)
        for chunk in reader:
            size += chunk.data.nbytes
            if count is not None:
                count[0] = size
            if seconds and time.monotonic() - began > seconds:
                reader.cancel()
                break
        return size, time.monotonic() - began


def ticket_of(recipe: Recipe) -> flight.Ticket:
    """Returns a ticket for the whole stream of a recipe."""
    return flight.Ticket(json.dumps({"recipe": json.loads(recipe.to_json()), "start": 0}))


def together(address: str, tickets: list[flight.Ticket], seconds: float) -> list[int]:
    """Returns the bytes that each of several parallel readers receives in `seconds`."""
    counts = [[0] for _ in tickets]
    threads = [
        threading.Thread(target=drain, args=(address, ticket, seconds, count), daemon=True)
        for ticket, count in zip(tickets, counts, strict=True)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    sizes = [count[0] for count in counts]
    for thread in threads:
        thread.join(5)
    return sizes


def wait_until_quiet(server: Process, rate: float, seconds: float = 60) -> None:
    """Waits until the server sends at most `rate` bytes/s. Slow readers reach this rate only after the buffers of their
    transport are full.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = server.sent()
        time.sleep(2)
        if (server.sent() - before) / 2 <= rate:
            return


async def slow_readers(address: str, recipe: Recipe, readers: int) -> None:
    """Runs readers that each take one message a second. Prints a line when all have begun."""
    import grpc

    from choline_data.v1 import firehose_pb2 as pb
    from choline_data.v1 import firehose_pb2_grpc

    begun = 0

    async def one_reader(number: int) -> None:
        nonlocal begun
        await asyncio.sleep(number / 100)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 8 << 20)]
        # With larger HTTP/2 windows, the readers would first receive many MB at full speed.
        options.append(("grpc.http2.bdp_probe", 0))
        async with grpc.aio.insecure_channel(address, options) as channel:
            stub = firehose_pb2_grpc.FirehoseServiceStub(channel)
            request = pb.ReadStreamRequest(
                recipe_json=recipe.to_json(), start_position=number * 64, target_message_bytes=SLOW_MESSAGE
            )
            stream = stub.ReadStream(request)
            for turn in range(1000):
                await stream.read()
                if turn == 2:
                    begun += 1
                    if begun == readers:
                        print(json.dumps({"address": address}), flush=True)
                await asyncio.sleep(1)

    # If the server drops a reader, the error of the reader ends the run.
    await asyncio.gather(*(one_reader(n) for n in range(readers)))


def measure(home: Home, size: float, *, consumers: tuple[int, int, int]) -> dict[str, Any]:
    """Measures every figure of the run."""
    figures: dict[str, Any] = {}
    many, crowd, sluggish = consumers
    recipes = [resolve_mix("web:0.7,code:0.3", home, seed=s, repeat=False) for s in range(3)]
    endless = resolve_mix("web:0.7,code:0.3", home, seed=9)
    with Process(__file__, "--role", "bare", "--home", home.location) as bare:
        drain(bare.address, flight.Ticket(b""))
        before = bare.cpu()
        size_read, took = drain(bare.address, flight.Ticket(b""))
        figures["bare_mb_s"], figures["bare_cpu_s_gb"] = size_read / took / 1e6, (bare.cpu() - before) / size_read * 1e9
    with Process(__file__, "--role", "prepared") as sender:
        receive(sender.address)
        before = sender.cpu()
        size_sent = receive(sender.address)
        figures["grpc_alone_cpu_s_gb"] = (sender.cpu() - before) / size_sent * 1e9
    with ours(home) as server:
        drain(server.address, ticket_of(recipes[0]))  # a warm-up: afterwards, the pages of the store are in memory
        runs = []
        for recipe in recipes[1:]:  # Each run has another seed, so that the server makes every message anew.
            before = server.cpu()
            size_read, took = drain(server.address, ticket_of(recipe))
            runs.append((size_read / took / 1e6, (server.cpu() - before) / size_read * 1e9))
        figures["one_mb_s"], figures["one_cpu_s_gb"] = max(runs)[0], min(r[1] for r in runs)
        before = server.cpu()
        size_read, took = drain(server.address, ticket_of(recipes[1]))
        figures["again_mb_s"], figures["again_cpu_s_gb"] = (
            size_read / took / 1e6,
            (server.cpu() - before) / size_read * 1e9,
        )
    figures["of_bare"] = figures["one_mb_s"] / figures["bare_mb_s"]
    with ours(home) as server:
        before = server.cpu()
        shares = together(server.address, [ticket_of(endless)] * many, 5)
        figures[f"consumers_{many}_cpu_s_gb"] = (server.cpu() - before) / sum(shares) * 1e9
        figures[f"consumers_{many}_mb_s"] = sum(shares) / 5 / 1e6
        figures[f"consumers_{many}_of_one"] = figures[f"consumers_{many}_mb_s"] / figures["one_mb_s"]
    with ours(home) as server:
        shares = together(server.address, [ticket_of(endless)] * crowd, 10)
        figures[f"consumers_{crowd}_mb_s"] = sum(shares) / 10 / 1e6
        figures[f"consumers_{crowd}_least_of_mean"] = min(shares) / (sum(shares) / crowd)
        figures[f"consumers_{crowd}_without_any"] = sum(1 for s in shares if not s)
    with ours(home, "--metrics-port", "0") as server:
        alone = [drain(server.address, ticket_of(endless), 4)]
        base = server.rss()
        reading = ("--home", home.location, "--server", server.address, "--consumers", str(sluggish))
        with Process(__file__, "--role", "slow", *reading):
            wait_until_quiet(server, 1.2 * sluggish * SLOW_MESSAGE)
            before, began = server.sent(), time.monotonic()
            size_read, took = drain(server.address, ticket_of(endless), 8)
            rest = (server.sent() - before - size_read) / (time.monotonic() - began)
            figures[f"slow_{sluggish}_mb_each"] = max(server.rss() - base, 0) / sluggish / 1e6
        alone.append(drain(server.address, ticket_of(endless), 4))
        fast = sum(size for size, _ in alone) / sum(seconds for _, seconds in alone)
        figures[f"slow_{sluggish}_mb_s"] = rest / 1e6
        figures[f"slow_{sluggish}_fast_kept"] = size_read / took / fast
    with tempfile.TemporaryDirectory() as folder, ours(make_shards(folder, 100_000)) as server:
        with flight.connect(f"grpc://{server.address}") as client:
            client.get_flight_info(flight.FlightDescriptor.for_path("big"))
        figures["ready_s_100k_shards"], figures["rss_mb_100k_shards"] = server.ready_seconds, server.rss() / 1e6
    figures["gb"] = size / 1e9
    return figures


def main() -> int:
    """Runs all measurements and prints a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=0.5, help="size of the data in GB")
    parser.add_argument("--row", type=int, default=ROW, help="mean bytes of a document")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--consumers", default="64,256,500", help="numbers of consumers to measure")
    parser.add_argument("--role", default="", help=argparse.SUPPRESS)
    parser.add_argument("--server", default="", help=argparse.SUPPRESS)
    parser.add_argument("--home", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "bare":
        server = Bare(Home(options.home))
        print(json.dumps({"address": f"127.0.0.1:{server.port}"}), flush=True)
        server.serve()
        return 0
    if options.role == "prepared":
        asyncio.run(serve_prepared(MESSAGE))
        return 0
    if options.role == "slow":
        recipe = resolve_mix("web:0.7,code:0.3", Home(options.home), seed=9)
        asyncio.run(slow_readers(options.server, recipe, int(options.consumers)))
        return 0
    many, crowd, sluggish = (int(n) for n in options.consumers.split(","))
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(
            make_home(folder, options.gb * 1e9, options.row), options.gb * 1e9, consumers=(many, crowd, sluggish)
        )
    if options.json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}))
    else:
        for key, value in figures.items():
            print(f"{key:32} {value:10.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
