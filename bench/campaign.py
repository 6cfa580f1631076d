"""Runs rounds of random commands in processes that are killed at random: add, remove, collect, tokenize and read.

    python bench/campaign.py                            # 500 rounds of 8 processes on one local home
    python bench/campaign.py --rounds 40 --store s3     # on an object store (needs moto[s3] and s3fs)

After each round, every dataset of the catalog and every pinned revision must verify. A reader must get exactly the rows of
its revision, or an error that says that the revision is gone. In every twentieth round the processes pretend to be on three
hosts, so that no lock of the kernel shows which of them live. Prints one JSON object. The exit code is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from choline_data.catalog.add import ingest, prepare
from choline_data.errors import (
    AlreadyExistsError,
    CholineDataError,
    ConflictError,
    InvalidMixError,
    InvalidOptionError,
    RevisionGoneError,
    UnknownDatasetError,
)
from choline_data.mix import resolve_mix
from choline_data.places.home import Home
from choline_data.store import Catalog, leases, open_revision
from choline_data.store.retention import pin, pins, unpin
from choline_data.store.windows import Store
from choline_data.tokens.token_store import tokenize
from choline_data.tokens.token_stream import token_options, token_rows
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.upkeep.garbage import collect
from choline_data.upkeep.verify import verify
from choline_data.views import open_stream

NAMES = ("code", "news", "web")
VERSIONS = 4
ROWS = 40
LIMIT_SECONDS = 60  # seconds for one process; a process that takes longer counts as a hang
# `kill_at_random_call` kills a process before or after a call of one of these functions.
POINTS = ("link", "unlink", "replace", "rename", "fsync", "utime", "makedirs", "open", "stat")
REMOTE_POINTS = ("pipe_file", "put_file", "rm", "find", "info", "cat_file")
# Errors that an operation may end with.
TOLD = (AlreadyExistsError, ConflictError, RevisionGoneError, UnknownDatasetError)

Expected = dict[str, list[str]]


def sources(folder: Path) -> list[Path]:
    """Makes folders for `add`. All folders have one file in common, so their datasets share one store file."""
    common = "".join(json.dumps({"text": f"A common line {row} of some words."}) + "\n" for row in range(ROWS))
    out = []
    for version in range(VERSIONS):
        place = folder / f"version-{version}"
        place.mkdir()
        (place / "test.jsonl").write_text(common)
        own = ({"text": f"Line {row} of version {version}, with some words."} for row in range(ROWS + version))
        (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
        out.append(place)
    return out


def add(home: Home, name: str, source: Path) -> str:
    prepared = prepare(home, str(source), name=name)
    return ingest(home, prepared, replace_existing=True).entry.revision


def expected_of(folder: Path, places: list[Path]) -> Expected:
    """Returns the texts of the revision that `add` makes from each source."""
    home, out = Home(folder / "calm"), {}
    for place in places:
        revision = add(home, "calm", place)
        batches = open_revision(home, revision).read(0, open_revision(home, revision).rows, ["text"])
        out[revision] = [text for batch in batches for text in batch["text"].to_pylist()]
    warm = Actor(home, places, out, random.Random(0))  # Import the modules once, before the forks.
    warm.name = "calm"
    for operation in ("read", "tokenize", "read_tokens", "gc"):
        getattr(warm, operation)()
    return out


class Actor:
    """The operations that one process of a round may run."""

    def __init__(self, home: Home, places: list[Path], expected: Expected, dice: random.Random) -> None:
        self.home, self.places, self.expected, self.dice = home, places, expected, dice
        self.name = dice.choice(NAMES)

    def add(self) -> None:
        """Adds or replaces a dataset."""
        add(self.home, self.name, self.dice.choice(self.places))

    def rm(self) -> None:
        """Removes a dataset from the catalog."""
        Catalog(self.home).remove(self.name)

    def gc(self) -> None:
        """Collects garbage, with a retention of 0, of two seconds, or of 30 days."""
        collect(self.home, keep_days=self.dice.choice((0, 0, 0, 2 / 86400, 30)))

    def pin(self) -> None:
        """Pins a dataset, or removes its pins."""
        if self.dice.random() < 0.5:
            pin(self.home, self.name)
        else:
            try:
                unpin(self.home, self.name)
            except InvalidOptionError:  # the dataset has no pins
                return

    def tokenize(self) -> None:
        """Tokenizes a dataset, and compares the number of documents with the texts."""
        revision = Catalog(self.home).entry(self.name).revision
        tokens = tokenize(self.home, revision, Tokenizer("bytes"), self.dice.choice(("eos", "none")))
        texts = self.expected[revision]
        assert tokens.documents == len(texts), f"{tokens.documents} documents of {len(texts)}"

    def read(self) -> None:
        """Reads a stream to its end, slowly."""
        store = Store(Home(self.home.location))
        recipe = resolve_mix(f"{self.name}/all", store, shuffle=False, repeat=False)
        stream = open_stream(store, recipe)
        texts = self.expected[recipe.sources[0].revision]
        read_texts: list[str] = []
        for start in range(0, len(texts), 16):
            read_texts += stream.read(start, min(start + 16, len(texts)))["text"].to_pylist()
            assert read_texts == texts[: len(read_texts)], "other rows"
            time.sleep(self.dice.random() * 0.03)

    def read_tokens(self) -> None:
        """Reads packed rows. Their tokens may be made on request."""
        store = Store(Home(self.home.location))
        options = token_options(seq_len=32)
        rows = token_rows(Tokenizer("bytes"))
        recipe = resolve_mix(f"{self.name}/all", store, view="tokens", options=options, rows_of=rows, shuffle=False)
        stream = open_stream(store, recipe)
        text = self.expected[recipe.sources[0].revision][0]
        first = bytes(stream.read(0, 1)["tokens"].to_pylist()[0][: min(len(text), 32)])
        assert first == text.encode()[: len(first)], "other tokens"


OPERATIONS: tuple[tuple[str, int], ...] = (
    ("add", 6),
    ("rm", 2),
    ("gc", 4),
    ("pin", 1),
    ("tokenize", 2),
    ("read", 4),
    ("read_tokens", 1),
)


def kill_at_random_call(home: Home, dice: random.Random) -> None:
    """Makes this process kill itself at a randomly chosen call of the operating system or the object store."""
    system: Any = os if home.local else home.fs
    point, left = dice.choice(POINTS if home.local else REMOTE_POINTS), dice.randrange(1, 30 if home.local else 8)
    real = getattr(system, point)
    before = dice.random() < 0.5

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if not left and before:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*arguments, **options)
        finally:
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(system, point, call)


def child(actor: Actor, operation: str, report: Path) -> None:
    """Runs an operation. Writes unexpected errors to `report`."""
    try:
        getattr(actor, operation)()
    except TOLD:
        os._exit(3)
    except InvalidMixError as error:
        if not error.message.endswith("no rows to serve."):
            report.write_text(traceback.format_exc())
            os._exit(1)
    except BaseException:  # noqa: BLE001 - it goes into the report
        report.write_text(f"{operation}\n{traceback.format_exc()}")
        os._exit(1)
    os._exit(0)


class Campaign:
    """Runs the rounds, and holds their results."""

    def __init__(self, home: Home, folder: Path, *, processes: int, seed: int, quiet: bool) -> None:
        self.home, self.folder, self.processes, self.quiet = home, folder, processes, quiet
        self.dice = random.Random(seed)
        self.places = sources(folder)
        self.expected = expected_of(folder, self.places)
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def round(self, number: int, *, hosts: bool) -> None:
        """Runs several processes at the same time, then verifies everything."""
        begun: dict[int, tuple[str, Path]] = {}
        kills: list[tuple[float, int]] = []
        names, weights = zip(*OPERATIONS, strict=True)
        began = time.monotonic()
        for index in range(self.processes):
            operation = self.dice.choices(names, weights)[0]
            dice = random.Random(self.dice.getrandbits(64))
            fate = self.dice.random()
            report = self.folder / f"fault-{number}-{index}"
            pid = os.fork()
            if not pid:
                logging.disable()
                if hosts:
                    leases._kernel = partial(str, f"host {index % 3}")
                home = Home(self.home.location)
                if fate < 0.25:
                    kill_at_random_call(home, dice)
                child(Actor(home, self.places, self.expected, dice), operation, report)
            begun[pid] = (operation, report)
            if 0.25 <= fate < 0.45:
                kills.append((began + self.dice.random() * (0.4 if self.home.local else 3), pid))
        self._await(begun, sorted(kills), began)
        self._verify(number)

    def _await(self, begun: dict[int, tuple[str, Path]], kills: list[tuple[float, int]], began: float) -> None:
        left = set(begun)
        while left:
            now = time.monotonic()
            while kills and kills[0][0] <= now:
                _, pid = kills.pop(0)
                if pid in left:
                    os.kill(pid, signal.SIGKILL)
            if now - began > LIMIT_SECONDS:
                self.faults.append(f"hangs: {[begun[pid][0] for pid in left]}")
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                return
            for pid in list(left):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    left.discard(pid)
                    self._count(begun[pid][0], begun[pid][1], status)
            time.sleep(0.002)

    def _count(self, operation: str, report: Path, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self.counts[f"{operation}: {'done' if code == 0 else 'told' if code == 3 else 'killed'}"] += 1
        if report.exists():
            self.faults.append(report.read_text())
            report.unlink()
        elif code not in (0, 3, -signal.SIGKILL):
            self.faults.append(f"{operation} ended with {code}")

    def _verify(self, number: int) -> None:
        home = Home(self.home.location)
        try:
            for entry in Catalog(home).entries().values():
                verify(home, entry)
                self.counts["verified"] += 1
            for kept in pins(home):
                texts = self.expected[kept.revision]
                batches = open_revision(home, kept.revision).read(0, len(texts), ["text"])
                assert [text for batch in batches for text in batch["text"].to_pylist()] == texts
                self.counts["pins verified"] += 1
        except (CholineDataError, AssertionError):
            self.faults.append(f"after round {number}: {traceback.format_exc()}")

    def end(self) -> None:
        """Checks that a last garbage collection, with no other process running, leaves exactly the referenced objects."""
        home = Home(self.home.location)
        # Some killed processes pretended to be on another host. Their leases seem valid until they expire.
        if home.names(leases.FOLDER):
            time.sleep(leases.DEAD_SECONDS + 1)
        collect(home, keep_days=0)
        self._verify(-1)
        keep = {e.revision for e in Catalog(home).entries().values()} | {p.revision for p in pins(home)}
        there = {name.split("/")[1] for name in home.names("revisions")}
        files = {f.sha256 for revision in keep for f in open_revision(home, revision).files()}
        stored = {Path(name).stem for name in home.names("data")}
        if there != keep or stored != files or home.names("leases"):
            self.faults.append(f"left over: {there ^ keep} {stored ^ files} {home.names('leases')}")


def on_s3(run: Callable[[Home], None]) -> None:
    """Runs on an in-memory object store, served by a process on this machine."""
    import subprocess

    script = (
        "from moto.server import ThreadedMotoServer as S; import sys; s = S('127.0.0.1', port=0, verbose=False); s.start();"
        "print('http://{}:{}'.format(*s.get_host_and_port()), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None and server.stdin is not None
        variables = {"AWS_ENDPOINT_URL": server.stdout.readline().decode().strip(), "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ |= {**variables, "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "none"}
        # This runs in a separate process, because the file system starts threads, and this process must have none when
        # it forks.
        create_bucket = "import boto3; boto3.resource('s3').create_bucket(Bucket='shelf')"
        subprocess.run([sys.executable, "-c", create_bucket], check=True)
        try:
            run(Home("s3://shelf/home"))
        finally:
            server.stdin.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500, help="number of rounds")
    parser.add_argument("--processes", type=int, default=8, help="processes in each round")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random choices")
    parser.add_argument("--store", choices=("local", "s3"), default="local", help="kind of home")
    parser.add_argument("--quiet", action="store_true", help="print only the result")
    options = parser.parse_args()
    began, ends = time.monotonic(), {}
    # The times are shorter than in production: a writer that is silent soon counts as dead, so a round does not wait long.
    times = (0.3, 1.2, 4.0) if options.store == "local" else (1.0, 4.0, 10.0)
    leases.RENEW_SECONDS, leases.TRUST_SECONDS, leases.DEAD_SECONDS = times
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def run(home: Home) -> None:
            campaign = Campaign(home, folder, processes=options.processes, seed=options.seed, quiet=options.quiet)
            for number in range(options.rounds):
                campaign.round(number, hosts=number % 20 == 19)
                if not options.quiet and number % 25 == 24:
                    sys.stderr.write(f"{number + 1} rounds, {len(campaign.faults)} faults\n")
                if len(campaign.faults) > 20:
                    break
            campaign.end()
            ends.update(counts=dict(sorted(campaign.counts.items())), faults=campaign.faults)

        if options.store == "s3":
            on_s3(run)
        else:
            run(Home(folder / "home"))
    sys.stdout.write(
        json.dumps(
            {"rounds": options.rounds, "seed": options.seed, "seconds": round(time.monotonic() - began, 1), **ends}
        )
        + "\n"
    )
    return bool(ends["faults"])


if __name__ == "__main__":
    sys.exit(main())
