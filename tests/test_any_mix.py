"""Any two datasets can be mixed without casts: real ones of every kind in pairs, and every pair of column types."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from tests.served import Served

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.client import FirehoseDataset
from choline_data.places.home import Home

REAL = (
    "fortunes",
    "wikitext-2",
    "mbpp",
    "sharegpt_fastchat",
    "preference",
    "palmerpenguins",
    "hf_imagefolder_greek",
    "fsdd",
    "coco_results",
    "croissant",
    "mds_fashion",
    "parquet_testing",
)
CHOICES = {  # these folders hold several datasets each
    "preference": ("dpo_en_demo.json",),
    "palmerpenguins": ("penguins.csv",),
    "coco_results": ("instances_*",),
    "parquet_testing": ("alltypes*",),
}
REMOTE = (
    ("mbpp", "preference"),
    ("palmerpenguins", "fsdd"),
    ("croissant", "mds_fashion"),
    ("coco_results", "fortunes"),
)
TEXT = ["one", "two", "three"]
COLUMNS = {
    "string": {"text": pa.array(TEXT, pa.string())},
    "large_string": {"text": pa.array(TEXT, pa.large_string())},
    "string_view": {"text": pa.array(TEXT, pa.string_view())},
    "dictionary": {"text": pa.array(TEXT).dictionary_encode()},
    "list": {"text": pa.array(TEXT), "tags": pa.array([["a"], [], ["b", "c"]], pa.list_(pa.string()))},
    "large_list": {
        "text": pa.array(TEXT),
        "tags": pa.array([["a"], None, ["b", "c"]], pa.large_list(pa.large_string())),
    },
    "fixed_list": {"text": pa.array(TEXT), "tags": pa.array([["a"], ["b"], ["c"]], pa.list_(pa.string(), 1))},
    "int32": {"text": pa.array(TEXT), "label": pa.array([1, 2, 3], pa.int32())},
    "int64": {"text": pa.array(TEXT), "label": pa.array([1, 2, 1 << 40], pa.int64())},
    "uint8": {"text": pa.array(TEXT), "label": pa.array([1, 2, 3], pa.uint8())},
    "label_string": {"text": pa.array(TEXT), "label": pa.array(["x", "y", None])},
    "double": {"text": pa.array(TEXT), "label": pa.array([0.5, None, 1.5])},
    "null": {"text": pa.array(TEXT), "label": pa.nulls(3)},
    "decimal": {"text": pa.array(TEXT), "price": pa.array([1, 2, 3]).cast(pa.decimal128(24, 3))},
    "time": {"text": pa.array(TEXT), "seen": pa.array([0, 1, 2], pa.timestamp("us", "UTC"))},
    "struct": {"text": pa.array(TEXT), "meta": pa.array([{"a": 1}, None, {"a": 2}])},
    "turns": {"messages": pa.array([[{"role": "user", "content": t}] for t in TEXT])},
    "bytes": {"text": pa.array(TEXT), "raw": pa.array([b"\x00", b"\xff", None])},
}


def added(home: Home, place: Path, name: str, **wishes: Any) -> None:
    """Adds a dataset as the command line does with no flag but these."""
    ingest(home, prepare(home, str(place), name=name, wishes=Wishes(**wishes)))


def read(mix: dict[str, int], **options: Any) -> Counter[str]:
    """How many samples of each dataset a mix gives, batches and samples alike."""
    batches = Counter(
        name for batch in FirehoseDataset(mix, batch_size=7, seed=2, **options) for name in batch["dataset"]
    )
    samples = list(FirehoseDataset(mix, seed=2, **options))
    assert Counter(sample["dataset"] for sample in samples) == batches
    assert len({tuple(sample) for sample in samples}) == 1  # one schema
    return batches


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset for each way that columns can be typed, from Parquet; and one whose columns come late."""
    folder = tmp_path_factory.mktemp("typed")
    home = Home(folder / "home")
    for name, columns in COLUMNS.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
        added(home, folder / f"{name}.parquet", name)
    lines = [{"text": f"row {n}"} | ({"late": n, "later": [n]} if n > 2900 else {}) for n in range(3000)]
    (folder / "late.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    added(home, folder / "late.jsonl", "late")
    return folder / "home"


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of real datasets of every kind, the first 40 samples of each."""
    folder = tmp_path_factory.mktemp("real") / "home"
    for name in REAL:
        added(Home(folder), shared_data / name, name, limit=40, include=CHOICES.get(name, ()))
    return folder


def test_any_two_ways_of_typing_columns_mix(synthetic: Path):
    rows = {**dict.fromkeys(COLUMNS, 3), "late": 3000}
    for one, other in itertools.combinations(rows, 2):
        options = {"max_samples": 60} if "late" in (one, other) else {"repeat": False}
        got = read({one: 1, other: 1}, home=synthetic, **options)
        assert got == ({one: 30, other: 30} if "late" in (one, other) else {one: 3, other: 3}), (one, other)


def test_all_ways_of_typing_columns_mix_at_once(synthetic: Path):
    mix = dict.fromkeys(COLUMNS, 1)
    assert read(mix, home=synthetic, repeat=False) == dict.fromkeys(COLUMNS, 3)


def test_columns_that_come_late_are_there_and_null_before(synthetic: Path):
    samples = list(FirehoseDataset("late", home=synthetic, shuffle=False, repeat=False))
    assert json.loads(samples[10]["extra"]) == {"late": None, "later": None}
    assert json.loads(samples[2999]["extra"]) == {"late": 2999, "later": [2999]}


def test_any_two_real_datasets_mix(real: Path):
    for one, other in itertools.combinations(REAL, 2):
        assert read({one: 1, other: 1}, home=real, max_samples=40).keys() == {one, other}


def test_real_datasets_of_every_kind_mix_from_a_server_as_they_do_here(real: Path):
    server = Served(real)
    try:
        for mix in [*(dict.fromkeys(pair, 1) for pair in REMOTE), dict.fromkeys(REAL, 1)]:
            here = list(FirehoseDataset(mix, home=real, seed=2, max_samples=60))
            there = list(FirehoseDataset(mix, server=server.address, seed=2, max_samples=60))
            assert there == here
            assert read(mix, server=server.address, max_samples=60).keys() == mix.keys()
    finally:
        server.stop()


def test_a_bad_row_of_one_of_two_is_an_event_and_no_crash(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    lines = [json.dumps({"text": f"row {n}"}) for n in range(20)]
    lines[6], lines[12] = '{"text": "cut', '{"text": 3'
    (tmp_path / "bad.jsonl").write_text("\n".join(lines))
    (tmp_path / "good.jsonl").write_text("\n".join(json.dumps({"text": f"other {n}"}) for n in range(18)))
    home = Home(tmp_path / "home")
    added(home, tmp_path / "good.jsonl", "good")
    added(home, tmp_path / "bad.jsonl", "bad", max_rejects=0.5)

    def picky(sample: dict[str, Any]) -> dict[str, Any]:
        if sample["text"] == "row 3":
            raise ValueError("no")
        return sample

    dataset = FirehoseDataset("good:1,bad:1", home=tmp_path / "home", repeat=False, transform=picky, on_error="skip")
    assert Counter(sample["dataset"] for sample in dataset) == {"good": 18, "bad": 17}
    assert dataset.stats()["skipped"] == 1
    assert "of bad, id" in caplog.text
