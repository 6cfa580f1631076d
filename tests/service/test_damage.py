"""A server whose store files are cut, overwritten or lost while it streams: one stream gets an error, the others go on."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from choline_data.errors import DamagedStoreError
from choline_data.mix import resolve_mix
from choline_data.order.lanes import Lane
from choline_data.places.home import Home
from choline_data.service.opened import Gathered
from choline_data.store.windows import Store
from choline_data.streams.sample_stream import SampleStream

from ..damage import DAMAGES, Kept, check_error, fill, store_files  # noqa: TID252 - tests are no package

pytest.importorskip("torch")

from choline_data.client import FirehoseDataset

SMALL = ("--limit", "message_bytes=65536")
ROUNDS = int(os.environ.get("CHOLINE_DAMAGE_ROUNDS", "1"))
ROWS, ROW_BYTES = 240, 96 << 10  # so much that the buffers on the way hold a part of it


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "home"
    fill(folder, "one", "two", rows=ROWS, row_bytes=ROW_BYTES)
    return folder


@pytest.fixture(scope="module")
def expected(whole: Path) -> dict[str, list[str]]:
    return {name: list(texts(name, home=whole)) for name in ("one", "two")}


def texts(name: str, **options: Any) -> Iterator[str]:
    made = FirehoseDataset(name, seed=3, rank=0, world_size=1, repeat=False, **options)
    return (sample["text"] for sample in made)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_stream_of_a_damaged_file_ends_with_an_error_and_the_others_go_on(whole, expected, tmp_path, serve, seed):
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    served = serve(home, *SMALL)
    dice = random.Random(seed)
    ended_early: set[str] = set()
    for damage in DAMAGES:
        path = dice.choice(store_files(home, "one"))
        kept = Kept(path, tmp_path)
        one, two = (texts(name, server=served.address, prefetch_bytes=1) for name in ("one", "two"))
        before = dice.randrange(1, ROWS // 3)
        assert list(itertools.islice(one, before)) == expected["one"][:before], damage
        assert list(itertools.islice(two, before)) == expected["two"][:before], damage
        DAMAGES[damage].do(path, dice)
        given: list[str] = []
        try:
            for text in one:
                given.append(text)
        except DamagedStoreError as error:
            check_error(error, path, untold=home)
            ended_early.add(damage)
        else:  # all of its rows were under way already, or nobody has to notice
            assert len(given) == ROWS - before
        assert given == expected["one"][before : before + len(given)], damage
        assert list(two) == expected["two"][before:], damage
        if DAMAGES[damage].noticed and damage != "a bit":
            with pytest.raises(DamagedStoreError, match=path.stem[:12]):
                list(texts("one", server=served.address))
        assert served.process.poll() is None
        kept.put_back()
        # The same process serves what was repaired, without a restart.
        assert list(texts("one", server=served.address)) == expected["one"], damage
    assert ended_early & {"to nothing", "at a page", "anywhere", "rewritten"}
    assert not ended_early & {"removed", "replaced"}
    assert served.terminate() == 0


def test_a_rank_of_many_whose_file_is_cut_gets_an_error_and_no_wrong_rows(whole, tmp_path, serve):
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    served = serve(home, *SMALL)

    def batches(**options: Any) -> Iterator[list[str]]:
        made = FirehoseDataset("one", seed=3, rank=5, world_size=1024, batch_size=8, **options)
        return (list(batch["text"]) for batch in made)

    wanted = batches(home=whole)
    given = batches(server=served.address, prefetch_bytes=1)
    for _ in range(200):
        assert next(given) == next(wanted)
    for path in store_files(home, "one"):
        DAMAGES["to nothing"].do(path, random.Random(1))
    with pytest.raises(DamagedStoreError):  # noqa: PT012 - the loop is what raises
        for texts_given in given:
            assert texts_given == next(wanted)
    assert served.process.poll() is None


def test_samples_gathered_ahead_are_not_given_after_their_file_was_cut(whole, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    stream = SampleStream(Store(Home(str(home))), resolve_mix("one", Home(str(home)), seed=3))
    lane, gathered = Lane.of(0, rank=5, world=1024, batch=8), Gathered()
    for start in (0, 64):
        batch = gathered.read(stream, lane, start, start + 64, 1024)
        assert batch.equals(stream.read_at(lane.positions(start, 64)))
    for path in store_files(home, "one"):
        DAMAGES["to nothing"].do(path, random.Random(1))
    with pytest.raises(DamagedStoreError):
        gathered.read(stream, lane, 128, 192, 1024)


def test_damaged_tokens_are_an_error_or_made_again_and_samples_go_on(whole, expected, tmp_path, serve):
    home = tmp_path / "home"
    shutil.copytree(whole, home)
    served = serve(home, *SMALL)
    dice = random.Random(1)

    def tokens(seed: int) -> list[list[int]]:
        made = FirehoseDataset(
            "one", server=served.address, view="tokens", seq_len=256, seed=seed, rank=0, world_size=1, repeat=False
        )
        return [sample["tokens"].tolist() for sample in itertools.islice(made, 200)]

    wanted = [tokens(seed) for seed in range(4)]
    for seed, damage in enumerate(("to nothing", "at a page", "rewritten"), 1):
        (path,) = home.glob("tokens/*/*/tokens.bin")
        kept = Kept(path, tmp_path)
        DAMAGES[damage].do(path, dice)
        with contextlib.suppress(DamagedStoreError):
            assert tokens(seed) == wanted[seed], damage
        assert served.process.poll() is None
        assert list(texts("two", server=served.address)) == expected["two"]
        kept.put_back()
        assert tokens(0) == wanted[0]
