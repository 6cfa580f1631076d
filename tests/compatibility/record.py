"""Records a home, recipes, states and wire messages of a release, for test_last_release.py.

    PYTHON_OF_THE_RELEASE tests/compatibility/record.py tests/compatibility/release.tar.xz

PYTHON_OF_THE_RELEASE has that release installed. The recorded data replace the old ones only after a release that keeps
the old formats readable: add a second archive instead if formats have changed.
"""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import grpc
from exchanges import Exchange, Recorder, as_json, call
from scenarios import READERS, dataset_of, first_items, write_sources

from choline_data.v1 import firehose_pb2 as pb


def states_of(home: Path) -> list[dict[str, Any]]:
    """States of every kind, each with the items that follow it."""
    out = []

    def take(reader: str, steps: int, *, ban: bool = False, change: bool = False, workers: int = 0) -> None:
        dataset = dataset_of(READERS[reader], home=home)
        if workers:
            loader = dataset.loader(num_workers=workers)
            items = iter(loader)
            for _ in range(steps):
                next(items)
            state = loader.state_dict()
            del loader
        else:
            items = iter(dataset)
            taken = list(itertools.islice(items, steps))
            if ban:
                dataset.ban(taken[0]["id"])
            if change:
                dataset.change_mix({"web": 1, "chat": 9}, at=8, until=12, steps=2)
            state = dataset.state_dict()
        del dataset, items  # a named run has one reader
        again = dataset_of(READERS[reader], home=home)
        again.load_state_dict(json.loads(json.dumps(state)))
        out.append({"reader": reader, "state": state, "items": first_items(again, 12)})

    for reader in READERS:
        take(reader, 3)
    take("samples", 0)
    take("samples", 1000)  # a whole pass
    take("samples", 2, ban=True)
    take("without an end", 5, change=True)
    take("samples", 3, workers=2)
    take("tokens", 3, workers=2)
    return out


def ask(address: str, method: str, request: Any) -> None:
    """Makes one call through the recorder."""
    with grpc.insecure_channel(address) as channel:
        list(call(channel, Exchange(method, request.SerializeToString())))


def exchanges_of(address: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The readers' streams by way of a server: each reader's items and exchanges, and single calls."""
    readers = {}
    for name, options in READERS.items():
        recorder = Recorder(address)
        dataset = dataset_of(options, server=recorder.address)
        items = first_items(dataset)
        explained = dataset.explain(2)
        texts = json.dumps([{key: str(value) for key, value in row.items()} for row in explained])
        recorder.close()
        stored = [as_json(exchange) for exchange in recorder.exchanges]
        readers[name] = {"items": items, "explained": texts, "exchanges": stored}
    recorder = Recorder(address)
    recipe = dataset_of(READERS["samples"], server=recorder.address).recipe.to_json()
    chat = next(iter(dataset_of({"mix": "chat"}, server=address)))
    claim = pb.ReaderClaim(run="another", rank=0, claimant=bytes(range(16)))
    for method, request in [
        ("ListDatasets", pb.ListDatasetsRequest(page_size=1)),
        ("GetDataset", pb.GetDatasetRequest(name="web")),
        ("GetDataset", pb.GetDatasetRequest(name="none")),
        ("GetSamples", pb.GetSamplesRequest(dataset="chat", ids=[chat["id"]])),
        ("GetSamples", pb.GetSamplesRequest(recipe_json=recipe, positions=[90, 3, 17, 3])),
        ("ReadStream", pb.ReadStreamRequest(recipe_json=recipe, claim=claim, world_size=3, max_row_count=20)),
        ("ReadStream", pb.ReadStreamRequest(recipe_json=recipe, cursor="damaged")),
        ("ReadStream", pb.ReadStreamRequest(recipe_json=recipe, start_position=10**6)),
        ("ResolveMix", pb.ResolveMixRequest(mix='{"nothing": 1}')),
    ]:
        ask(recorder.address, method, request)
    recorder.close()
    return readers, [as_json(exchange) for exchange in recorder.exchanges]


def main(target: str) -> None:
    """Writes the archive."""
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder))
        home = Path(folder) / "home"
        for name in ("web", "chat"):
            source = f"{folder}/{name}.jsonl"
            subprocess.run(
                [sys.executable, "-m", "choline_data", "add", source, "--name", name, "--home", str(home)], check=True
            )
        recipes = {name: dataset_of(options, home=home).recipe.to_json().decode() for name, options in READERS.items()}
        items = {name: first_items(dataset_of(options, home=home)) for name, options in READERS.items()}
        states = states_of(home)
        served = subprocess.Popen(
            [sys.executable, "-m", "choline_data.service", "--home", str(home), "--json"], stdout=subprocess.PIPE
        )
        assert served.stdout is not None
        readers, calls = exchanges_of(json.loads(served.stdout.readline())["address"])
        served.terminate()
        served.wait(30)
        record = {"recipes": recipes, "items": items, "states": states, "readers": readers, "calls": calls}
        with tarfile.open(target, "w:xz") as tar:
            tar.add(home, "home")
            body = json.dumps(record).encode()
            entry = tarfile.TarInfo("record.json")
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))


if __name__ == "__main__":
    main(sys.argv[1])
