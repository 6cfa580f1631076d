"""Measures what requests for positions that lie far apart cost a server: CPU time per message and per request, and memory.

    python bench/far.py [--json]

Serves a home of one text dataset and a small one. Compares messages of 512 rows. Some have consecutive positions. Others have the
positions of one rank of 1,024 that reads batches of 8: first this rank alone, then 32 ranks that read the same part of the stream,
as in a run whose ranks read from one server. Then requests the samples at 10,000 positions spread over 10^12, and
reads as one of 2^20 ranks while another client lists datasets. CPU times hardly depend on other work of the machine. The times to
list datasets do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
from abuse import Server, make_home

from choline_data.v1 import firehose_pb2 as pb
from choline_data.v1 import firehose_pb2_grpc

MESSAGES, ROWS = 200, 512
TICK = os.sysconf("SC_CLK_TCK")


class Figures:
    """Measures the costs of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stub = firehose_pb2_grpc.FirehoseServiceStub(grpc.insecure_channel(server.addresses["address"]))

    def _cpu(self) -> float:
        """Returns the CPU seconds that the server has used so far."""
        fields = Path(f"/proc/{self._server.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def recipe(self, mix: str) -> bytes:
        """Returns the recipe of a mix that repeats."""
        return bytes(self._stub.ResolveMix(pb.ResolveMixRequest(mix=mix, repeat=True), timeout=60).recipe_json)

    def message(self, recipe: bytes, **lane: int) -> float:
        """Returns the CPU milliseconds of the server for ROWS rows of this lane."""
        request = pb.ReadStreamRequest(
            recipe_json=recipe, target_message_bytes=1 << 20, max_row_count=MESSAGES * ROWS, **lane
        )
        rows = 0
        before = self._cpu()
        for frame in self._stub.ReadStream(request, timeout=300):
            rows += frame.batch.row_count
        return (self._cpu() - before) / rows * ROWS * 1e3

    def world(self, recipe: bytes, ranks: int, start: int) -> float:
        """Returns the CPU milliseconds of the server for ROWS rows, if `ranks` of 1,024 ranks read the same part of the
        stream in turn.
        """
        rows, before = 0, self._cpu()
        for rank in range(ranks):
            request = pb.ReadStreamRequest(
                recipe_json=recipe, target_message_bytes=1 << 20, max_row_count=24 * ROWS, start_position=start,
                rank=rank, world_size=1024, batch_size=8,
            )  # fmt: skip
            for frame in self._stub.ReadStream(request, timeout=300):
                rows += frame.batch.row_count
        return (self._cpu() - before) / rows * ROWS * 1e3

    def samples(self, recipe: bytes) -> tuple[float, int]:
        """Requests 10,000 positions spread over 10^12.

        Returns the CPU seconds of one request, and by how many bytes the server's memory grew.
        """
        self._ask(recipe, 1)
        before, rss = self._cpu(), self._server.rss()
        self._ask(recipe, 2)
        return self._cpu() - before, self._server.rss() - rss

    def _ask(self, recipe: bytes, first: int) -> None:
        positions = [number * 10**8 + first for number in range(10_000)]
        request = pb.GetSamplesRequest(recipe_json=recipe, positions=positions, columns=["kind"])
        self._stub.GetSamples(request, timeout=300)

    def list_beside(self, recipe: bytes, seconds: float) -> tuple[float, float, int]:
        """Measures the longest time to list the datasets: first alone, then while a client reads as one of 2^20 ranks.

        Returns both times, and by how many bytes the server's memory grew meanwhile.
        """
        alone = self._slowest_list(seconds)
        stream = self._stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe, rank=5, world_size=1 << 20))
        rss = self._server.rss()
        reader = threading.Thread(target=self._read, args=(stream,))
        reader.start()
        beside = self._slowest_list(seconds)
        grown = self._server.rss() - rss
        stream.cancel()
        reader.join()
        return alone, beside, grown

    @staticmethod
    def _read(stream: object) -> None:
        try:
            for _ in stream:  # type: ignore[attr-defined]
                pass
        except grpc.RpcError:
            return

    def _slowest_list(self, seconds: float) -> float:
        slowest, until = 0.0, time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            self._stub.ListDatasets(pb.ListDatasetsRequest(), timeout=20)
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        return slowest


def measure(home: str) -> dict[str, float]:
    """Returns all figures by name."""
    server = Server(home, os.path.join(home, "..", "server.log"), 512 << 20)
    try:
        figures = Figures(server)
        out = {}
        for name, mix in (("1 source", "web"), ("2 sources", "web:0.7,small:0.3")):
            recipe = figures.recipe(mix)
            figures.message(recipe)  # The first request pays for imports and for pages of files, so it is not measured.
            dense = figures.message(recipe, start_position=10**6)
            far = figures.message(recipe, start_position=10**7, rank=5, world_size=1024, batch_size=8)
            out[f"{name}: 512 dense rows, ms of CPU"] = dense
            out[f"{name}: 512 rows of a rank of 1,024 with batches of 8, ms of CPU"] = far
            out[f"{name}: ratio (bound: 2)"] = far / max(dense, 1e-9)
            together = figures.world(recipe, 32, 10**8)
            out[f"{name}: 512 rows of each of 32 ranks that read together, ms of CPU"] = together
            out[f"{name}: ratio for these ranks (bound: 2)"] = together / max(dense, 1e-9)
            cpu, grown = figures.samples(recipe)
            out[f"{name}: 10,000 positions over 10^12, s of CPU (bound: 2)"] = cpu
            out[f"{name}: the same, MB of memory (bound: 100)"] = grown / 1e6
        alone, beside, grown = figures.list_beside(figures.recipe("web"), 3.0)
        out["slowest list alone, ms"] = alone * 1e3
        out["slowest list beside a rank of 2^20, ms (bound: 50)"] = beside * 1e3
        out["a rank of 2^20, MB of memory (bound: 50)"] = grown / 1e6
        return out
    finally:
        server.end()


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="choline-far-") as folder:
        home = os.path.join(folder, "home")
        make_home(home)
        figures = measure(home)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:72} {figure:10.2f}")


if __name__ == "__main__":
    sys.exit(main())
