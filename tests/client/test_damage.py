"""A trainer whose store files are cut, overwritten or lost while it reads: it gets right samples or one error, and the
process survives.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from choline_data.client import FirehoseDataset
from choline_data.errors import CholineDataError, DamagedStoreError
from choline_data.places.home import Home
from choline_data.store import Catalog
from choline_data.upkeep.verify import verify

from ..damage import DAMAGES, Kept, check_error, fill, store_files  # noqa: TID252 - tests are no package

torch = pytest.importorskip("torch")

ROUNDS = int(os.environ.get("CHOLINE_DAMAGE_ROUNDS", "2"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "home"
    fill(folder, "one", "two")
    return folder


@pytest.fixture
def home(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def expected(whole: Path) -> dict[str, list[str]]:
    return {name: [sample["text"] for sample in dataset(whole, name)] for name in ("one", "two")}


def dataset(home: Path, name: str, **options: Any) -> FirehoseDataset:
    return FirehoseDataset(name, home=home, seed=3, rank=0, world_size=1, repeat=False, **options)


def texts(made: Iterator[Any]) -> Iterator[str]:
    for item in made:
        yield from [item["text"]] if isinstance(item["text"], str) else item["text"]


def loaded(home: Path, name: str, workers: int, context: str) -> Iterator[str]:
    from torch.utils.data import DataLoader

    given = dataset(home, name, batch_size=4)
    return texts(iter(DataLoader(given, batch_size=None, num_workers=workers, multiprocessing_context=context)))


WAYS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    "samples": lambda home, name: texts(iter(dataset(home, name))),
    "batches": lambda home, name: texts(iter(dataset(home, name, batch_size=4))),
    "our loader": lambda home, name: texts(iter(dataset(home, name, batch_size=4).loader(num_workers=1))),
    "fork": lambda home, name: loaded(home, name, 1, "fork"),
    "spawn": lambda home, name: loaded(home, name, 1, "spawn"),
}


@pytest.mark.parametrize("way", ["samples", "batches"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_trainer_gets_right_samples_or_an_error_that_names_the_file(home, expected, tmp_path, damage, way, seed):
    dice = random.Random(f"{damage} {way} {seed}")
    path = dice.choice(store_files(home, "one"))
    kept = Kept(path, tmp_path)
    one, two = WAYS[way](home, "one"), WAYS[way](home, "two")
    before = dice.randrange(1, len(expected["one"]) - 60)
    assert list(itertools.islice(one, before)) == expected["one"][:before]
    assert list(itertools.islice(two, before)) == expected["two"][:before]
    DAMAGES[damage].do(path, dice)
    given: list[str] = []
    try:
        for text in one:
            given.append(text)
    except DamagedStoreError as error:
        check_error(error, path)
    else:  # what was left was made already, or nobody has to notice
        assert len(given) == len(expected["one"]) - before
    assert given == expected["one"][before : before + len(given)]
    assert list(two) == expected["two"][before:]
    if DAMAGES[damage].noticed and damage != "a bit":  # a bit may be of what no block has, such as the file's footer
        with pytest.raises(DamagedStoreError, match=path.stem[:12]):
            list(WAYS[way](home, "one"))
    opened = Home(home)
    with pytest.raises(CholineDataError, match=path.stem[:12]):
        verify(opened, Catalog(opened).entry("one"))
    kept.put_back()
    assert list(WAYS[way](home, "one")) == expected["one"]


@pytest.mark.parametrize(
    ("way", "damage"),
    [
        *itertools.product(("our loader", "fork"), ("to nothing", "anywhere", "rewritten")),
        pytest.param("spawn", "to nothing", marks=pytest.mark.slow),
    ],
)
def test_a_worker_of_a_loader_lives_and_says_which_file(home, expected, damage, way):
    dice = random.Random(f"{damage} {way}")
    one = WAYS[way](home, "one")
    first = list(itertools.islice(one, 8))
    assert first == expected["one"][:8]
    for path in store_files(home, "one"):
        DAMAGES[damage].do(path, dice)
    with pytest.raises(DamagedStoreError, match="Store file"):
        list(one)
    del one
    assert list(WAYS[way](home, "two")) == expected["two"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_batch_that_is_looked_at_later_is_right_or_an_error(home, expected, damage):
    dice = random.Random(damage)
    batches = list(itertools.islice(dataset(home, "one", batch_size=8), 6))
    path = dice.choice(store_files(home, "one"))
    DAMAGES[damage].do(path, dice)
    given = []
    for number, batch in enumerate(batches):
        try:
            given.append(batch["text"])
        except DamagedStoreError as error:
            check_error(error, path)
            continue
        assert given[-1] == expected["one"][8 * number : 8 * number + 8]
    assert given or DAMAGES[damage].noticed


@pytest.mark.parametrize("damage", DAMAGES)
def test_tokens_are_right_or_an_error(home, damage):
    dice = random.Random(damage)

    def tokens() -> Iterator[Any]:
        made = dataset(home, "one", view="tokens", seq_len=512)
        return (sample["tokens"].tolist() for sample in made)

    wanted = list(tokens())
    now = tokens()
    before = len(wanted) // 3
    assert list(itertools.islice(now, before)) == wanted[:before]
    (path,) = home.glob("tokens/*/*/tokens.bin")
    kept = path.read_bytes()
    DAMAGES[damage].do(path, dice)
    given: list[Any] = []
    if DAMAGES[damage].noticed:
        with pytest.raises(DamagedStoreError, match="tokens"):
            given.extend(now)
    else:
        given.extend(now)
        assert before + len(given) == len(wanted)
    assert given == wanted[before : before + len(given)]
    path.unlink(missing_ok=True)
    path.write_bytes(kept)
    assert list(tokens()) == wanted
