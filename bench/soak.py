"""Measures memory over time, while many readers of several mixes come and go, and a server is restarted.

    python bench/soak.py [--minutes 15] [--readers 32] [--clients 4] [--memory 512MB] [--gb 2]

There are two servers of one home. The first one lives from the beginning to the end, and its memory is measured. The second
one is ended by SIGTERM and by SIGKILL in turn, and started again. The readers are threads of client processes and know both
servers. Each reader opens a dataset of some mix, rank and place, reads for a while, and leaves. The first client process
lives from the beginning to the end, and its memory is measured too. The others are killed and replaced.

Every reader compares the position and the id of every row with those in the home. The exit code is 1 if a row is wrong, if
the first server uses more than --memory plus 300 MB, if the server or the client grows by 1 MiB a minute or more after the
first third, or if SIGTERM takes more than 10 seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stream import make_home

from choline_data.mix import resolve_mix
from choline_data.places.home import Home
from choline_data.service.server import parse_bytes
from choline_data.store.windows import Store
from choline_data.views import open_stream

ROW = 8000
POSITIONS = 300_000  # number of positions in each mix that readers may visit
BATCH = 64
AHEAD = 4 << 20  # bytes that a reader reads ahead; fixed, so that client memory does not depend on timing
MORE = 300 * 1000 * 1000  # bytes that a server may hold in addition to its `memory`
GROWTH = 1.0  # permitted growth in MiB a minute
STOP_SECONDS = 10.0
MIXES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("web:0.7,code:0.3", {}),
    ("web:0.7,code:0.3", {"seed": 1}),
    ("web:0.2,code:0.8", {"seed": 2}),
    ("web", {"shuffle": False}),
    ("code", {"seed": 3}),
    ("code:0.5,web:0.5", {"seed": 4}),
)


def write_expected_ids(home: Home, folder: Path) -> None:
    """Writes the first 8 bytes of the id at each position of each mix."""
    store = Store(home)
    for number, (mix, options) in enumerate(MIXES):
        stream = open_stream(store, resolve_mix(mix, store, repeat=True, **options), ["id"])
        ids = np.empty(POSITIONS, np.int64)
        for start in range(0, POSITIONS, 1 << 14):
            stop = min(start + (1 << 14), POSITIONS)
            batch = stream.read_at(np.arange(start, stop, dtype=np.int64))
            ids[start:stop] = heads(batch["id"])
        np.save(folder / f"{number}.npy", ids)


def heads(ids: Any) -> npt.NDArray[np.int64]:
    """Returns the first 8 bytes of each id."""
    return np.frombuffer(ids.buffers()[1], np.int64)[ids.offset * 2 :][: 2 * len(ids) : 2]


class Client:
    """A client process with several readers."""

    def __init__(self, servers: list[str], folder: Path, readers: int, seed: int) -> None:
        self._servers = servers
        self._folder = folder
        self._seed = seed
        self._stop = threading.Event()
        self._wrong: list[str] = []
        self.rows = 0
        self.visits = 0
        self._readers = [threading.Thread(target=self._read, args=(number,)) for number in range(readers)]

    def run(self) -> int:
        """Reads until standard input ends, then prints the result."""
        for reader in self._readers:
            reader.start()
        sys.stdin.read()
        self._stop.set()
        for reader in self._readers:
            reader.join()
        print(json.dumps({"rows": self.rows, "visits": self.visits, "wrong": self._wrong[:10]}), flush=True)
        return int(bool(self._wrong))

    def _read(self, number: int) -> None:
        draw = random.Random(self._seed * 1000 + number)
        while not self._stop.is_set() and not self._wrong:
            which = draw.randrange(len(MIXES))
            try:
                self._visit(which, draw)
            except Exception as error:  # noqa: BLE001 - whatever a reader meets is what the bench looks for
                self._wrong.append(f"{MIXES[which]}: {type(error).__name__}: {error}")

    def _visit(self, which: int, draw: random.Random) -> None:
        """Makes one visit: opens a dataset, reads for a while, and closes it."""
        from choline_data import FirehoseDataset

        mix, options = MIXES[which]
        world = draw.choice((1, 1, 2, 4))
        rank = draw.randrange(world)
        dataset = FirehoseDataset(
            mix,
            server=self._servers,
            batch_size=BATCH,
            rank=rank,
            world_size=world,
            prefetch_bytes=AHEAD,
            **options,
        )
        ids = np.load(self._folder / f"{which}.npy", mmap_mode="r")
        step = world * BATCH
        first = draw.randrange(POSITIONS // step - 1)
        dataset.seek(first * step)
        steps = draw.randrange(20, 400)
        for at, batch in zip(range(first, min(first + steps, POSITIONS // step)), dataset, strict=False):
            start = at * step + rank * BATCH
            positions = batch["position"].numpy()
            if not np.array_equal(positions, np.arange(start, start + BATCH)):
                raise AssertionError(f"positions {positions[0]}… where {start}… should be")
            if not np.array_equal(heads(batch.arrow("id")), ids[start : start + BATCH]):
                raise AssertionError(f"the rows from position {start} have other ids than the first time")
            self.rows += BATCH
            if self.rows == BATCH:
                print("reading", flush=True)
            if self._stop.is_set():
                break
        self.visits += 1


class Child:
    """A child process of the bench."""

    def __init__(self, *argv: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        )

    def memory(self) -> dict[str, float]:
        """Returns the process's resident memory in MiB: all of it, the anonymous part, and the part from files."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return {}
        fields = dict(line.split(":", 1) for line in lines)
        names = {"all": "VmRSS", "anonymous": "RssAnon", "files": "RssFile"}
        return {name: int(fields[field].split()[0]) / 1024 for name, field in names.items() if field in fields}

    def end(self, number: int = signal.SIGTERM) -> float:
        """Sends the signal. Returns the seconds until the process has ended."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._close()
        return time.monotonic() - began

    def report(self) -> dict[str, Any]:
        """Asks a client to end. Returns its result."""
        out, _ = self.process.communicate(timeout=900)
        return dict(json.loads(out.splitlines()[-1]))

    def _close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def server(home: str, port: int, memory: str) -> Child:
    """Starts a server, and returns when it is ready."""
    child = Child("-m", "choline_data.service", "--home", home, "--port", str(port), "--memory", memory, "--json")
    assert child.process.stdout is not None
    assert child.process.stdout.readline(), "the server did not start"
    return child


def free_ports(count: int) -> list[int]:
    """Returns ports that are free now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports


def growth(times: list[float], sizes: list[float]) -> float:
    """Returns the growth in MiB per minute after the first third of the time. It is the slope of a least-squares line."""
    later = [(at, size) for at, size in zip(times, sizes, strict=True) if at >= times[-1] / 3]
    if len(later) < 3:
        return 0.0
    at, size = np.array(later).T
    return float(np.polyfit(at / 60, size, 1)[0])


class Soak:
    """One run of the bench: its processes, and the measurements of their memory."""

    def __init__(self, home: str, folder: Path, options: argparse.Namespace) -> None:
        self._home = home
        self._folder = folder
        self._options = options
        self._ports = free_ports(2)
        self._servers = [server(home, port, options.memory) for port in self._ports]
        self._clients = [self._client(number) for number in range(options.clients)]
        for client in self._clients:
            assert client.process.stdout is not None
            assert client.process.stdout.readline(), "a client ended before its first row"
        self._draw = random.Random(0)
        self._started = options.clients
        self.times: list[float] = []
        self.held: dict[str, list[dict[str, float]]] = {"server": [], "client": []}
        self.wrong: list[str] = []
        self.stop_seconds: list[float] = []
        self.restarts = 0

    def _client(self, number: int) -> Child:
        each = -(-self._options.readers // self._options.clients)
        addresses = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return Child(
            __file__,
            "--client",
            addresses,
            "--readers",
            str(each),
            "--seed",
            str(number),
            "--folder",
            str(self._folder),
        )

    def run(self) -> None:
        """Measures memory and disturbs the processes until the time is over."""
        began = time.monotonic()
        seconds = self._options.minutes * 60
        shown = disturbed = 0
        while (now := time.monotonic() - began) < seconds:
            self.times.append(now)
            for name, child in (("server", self._servers[0]), ("client", self._clients[0])):
                self.held[name].append(child.memory())
            if now >= shown * seconds / 20:
                shown += 1
                self._show(now)
            if now >= (disturbed + 1) * seconds / 11:
                disturbed += 1
                self._disturb(disturbed)
            if any(child.process.poll() is not None for child in (self._servers[0], *self._clients)):
                self.wrong.append("a process ended by itself")
                return
            time.sleep(1)

    def _show(self, now: float) -> None:
        line = [f"{now / 60:5.1f} min"]
        for name, held in self.held.items():
            line.append(name + "".join(f" {kind} {size:6.0f}" for kind, size in held[-1].items()))
        print("  ".join(line), flush=True)

    def _disturb(self, number: int) -> None:
        """Ends the second server or a client, and starts a new one."""
        if number % 2:
            kind = signal.SIGTERM if number % 4 == 1 else signal.SIGKILL
            seconds = self._servers[1].end(kind)
            if kind == signal.SIGTERM:
                self.stop_seconds.append(seconds)
            self._servers[1] = server(self._home, self._ports[1], self._options.memory)
            self.restarts += 1
        elif self._options.clients > 1:
            which = self._draw.randrange(1, self._options.clients)
            self._clients[which].end(signal.SIGKILL)
            self._clients[which] = self._client(self._started)
            self._started += 1

    def end(self) -> int:
        """Ends all processes. The first server ends while clients still read from it. Returns the number of compared rows."""
        self.stop_seconds.append(self._servers[0].end())
        rows = 0
        for child in self._clients:
            if child.process.poll() is None or child.process.returncode >= 0:
                result = child.report()
                rows += result["rows"]
                self.wrong += result["wrong"]
        self._servers[1].end()
        return rows


def verdict(soak: Soak, rows: int, memory: int) -> tuple[dict[str, Any], list[str]]:
    """Returns the figures, and a list of missed targets and wrong rows."""
    figures: dict[str, Any] = {"rows compared": rows, "server restarts": soak.restarts}
    figures["slowest end after SIGTERM, s"] = round(max(soak.stop_seconds), 1)
    missed = list(soak.wrong)
    if figures["slowest end after SIGTERM, s"] > STOP_SECONDS:
        missed.append("SIGTERM took too long")
    most = (memory + MORE) / (1 << 20)
    for name, held in soak.held.items():
        kept = [each for each in held if each]
        sizes = [each["all"] for each in kept]
        figures[f"{name}: most, MiB"] = round(max(sizes))
        figures[f"{name}: growth, MiB a minute"] = round(growth(soak.times[: len(sizes)], sizes), 2)
        anonymous = [each["anonymous"] for each in kept]
        figures[f"{name}: growth of anonymous, MiB a minute"] = round(growth(soak.times[: len(sizes)], anonymous), 2)
        if figures[f"{name}: growth, MiB a minute"] >= GROWTH:
            missed.append(f"the {name} grows")
    if figures["server: most, MiB"] > most:
        missed.append(f"the server holds more than {most:.0f} MiB")
    return figures, missed


@contextmanager
def working_folder(keep: str) -> Iterator[Path]:
    """Provides the folder `keep`, or a temporary folder that is deleted afterwards."""
    if keep:
        Path(keep).mkdir(parents=True, exist_ok=True)
        yield Path(keep)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15, help="length of the run")
    parser.add_argument("--readers", type=int, default=32, help="number of readers")
    parser.add_argument("--clients", type=int, default=4, help="number of client processes")
    parser.add_argument("--memory", default="512MB", help="--memory of the servers")
    parser.add_argument("--gb", type=float, default=2.0, help="size of the data in GB")
    parser.add_argument("--keep", default="", help="keep the data in this folder, and use what is already there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--client", default="", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        return Client(options.client.split(","), Path(options.folder), options.readers, options.seed).run()
    with working_folder(options.keep) as folder:
        where = folder / "home"
        if not (folder / "0.npy").exists():
            write_expected_ids(make_home(str(where), options.gb * 1e9, ROW), folder)
        soak = Soak(str(where), folder, options)
        try:
            soak.run()
        finally:
            rows = soak.end()
    figures, missed = verdict(soak, rows, parse_bytes(options.memory))
    if options.json:
        print(json.dumps({**figures, "missed": missed}))
        return int(bool(missed))
    for name, figure in figures.items():
        print(f"{name:48} {figure}")
    print("\n".join(f"MISSED: {what}" for what in missed) or "all within their bounds")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
