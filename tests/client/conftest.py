"""A small home of three datasets, and helpers that state what its stream contains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.served import Served

from choline_data.client import FirehoseDataset

MIX = {"web": 5, "code": 3, "chat": 2}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """web (300 rows), code (90) and chat (60, of kind chat)."""
    from tests.conftest import Shelf

    folder = tmp_path_factory.mktemp("client") / "home"
    shelf = Shelf(folder)
    shelf.add("web", {"text": [f"page {n}" for n in range(300)], "url": [f"https://e.org/{n}" for n in range(300)]})
    shelf.add("code", {"text": [f"line {n}" for n in range(90)]})
    turns = [[{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}] for n in range(60)]
    shelf.add("chat", {"turns": turns}, kind="chat")
    return folder


@pytest.fixture
def firehose(home: Path) -> Any:
    """Makes a FirehoseDataset of that home; rank 0 of 1 and finite by default."""

    def make(mix: object = MIX, **options: Any) -> FirehoseDataset:
        return FirehoseDataset(mix, home=home, **{"repeat": False, "seed": 7, **options})

    return make


def ids(samples: Iterable[Any]) -> list[bytes]:
    """The ids of samples, or of batches, in order."""
    out: list[bytes] = []
    for sample in samples:
        out += [sample["id"]] if isinstance(sample["id"], bytes) else list(sample["id"])
    return out


def positions(samples: Iterable[Any]) -> list[int]:
    """The positions of samples, or of batches, in order."""
    out: list[int] = []
    for sample in samples:
        out += [sample["position"]] if isinstance(sample["position"], int) else sample["position"].tolist()
    return out


@pytest.fixture(scope="session")
def server(home: Path) -> Iterator[Served]:
    """A server of the small home."""
    with Served(home) as running:
        yield running


@pytest.fixture
def remote(server: Served) -> Any:
    """Makes a FirehoseDataset that reads from the server."""

    def make(mix: object = MIX, **options: Any) -> FirehoseDataset:
        return FirehoseDataset(mix, **{"server": server.address, "repeat": False, "seed": 7, **options})

    return make


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
