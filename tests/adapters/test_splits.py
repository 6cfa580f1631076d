"""Splits and configs: the same as in the `datasets` library; where we differ, the reason is stated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.adapters.split_layouts import DIFFERENT, SAME, Layout, Splits, content, zipped

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading.splits import splits_of
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.errors import ChoiceNeededError, InvalidOptionError, MissingFieldError
from choline_data.places.home import Home
from choline_data.store import open_revision


def stored(home: Home, folder: Path | str, **wishes: Any) -> dict[str, list[dict[str, Any]]]:
    """The samples of each split (`config/split` if there is a config), as they are stored."""
    made = ingest(home, prepare(home, str(folder), name="x", wishes=Wishes(**wishes)), replace_existing=True)
    revision = open_revision(home, made.entry.revision)
    found: dict[str, list[dict[str, Any]]] = {}
    at = 0
    for file in revision.files():
        rows = [row for batch in revision.read(at, at + file.rows) for row in batch.to_pylist()]
        found.setdefault("/".join(filter(None, (file.config, file.split))), []).extend(rows)
        at += file.rows
    return found


def sources(home: Home, folder: Path | str, **wishes: Any) -> Splits:
    """The files whose rows are in each split."""
    return {split: {row["origin"]["file"] for row in rows} for split, rows in stored(home, folder, **wishes).items()}


def theirs(folder: Path, config: str = "") -> Splits:
    """The files whose rows `datasets` has in each split."""
    import datasets

    loaded = datasets.load_dataset(str(folder), config or None, streaming=True)
    return {str(split): {_source(row, folder) for row in rows} for split, rows in loaded.items()}


def _source(row: dict[str, Any], folder: Path) -> str:
    if "image" in row:
        return str(Path(row["image"]["path"]).relative_to(folder))
    if "__url__" in row:
        return str(Path(row["__url__"]).relative_to(folder))
    return str(row["source"])


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of `datasets` are their paths."""
    import datasets

    monkeypatch.setattr(datasets.Image, "decode_example", lambda self, value, token_per_repo_id=None: value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", SAME.values(), ids=SAME)
def test_the_splits_are_those_of_datasets(tmp_path: Path, layout: Layout, undecoded: None) -> None:
    folder = layout.write(tmp_path / "layout")
    ours = sources(Home(tmp_path / "home"), folder, config=layout.config)
    expected = theirs(folder, layout.config)
    if set(ours) == {""}:  # `datasets` calls it "train" if there are no splits
        ours = {"train": ours[""]}
    assert {split.rpartition("/")[2]: files for split, files in ours.items()} == expected


def test_at_least_forty_layouts_are_compared() -> None:
    assert len(SAME) >= 40


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", DIFFERENT.values(), ids=[f"{n}: {layout.why}" for n, layout in DIFFERENT.items()])
def test_the_splits_differ_on_purpose(tmp_path: Path, layout: Layout, undecoded: None) -> None:
    folder = layout.write(tmp_path / "layout")
    assert layout.why
    assert sources(Home(tmp_path / "home"), folder) == layout.ours
    assert theirs(folder) != layout.ours


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return [orjson.loads(row["extra"])["number"] for row in rows]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parted(path: Path) -> Path:
    """Ten rows that the column `part` gives to two splits in turn."""
    names = ("train", "dev")
    return lines(
        path, [{"source": "x", "number": n, "part": names[n % 2], "lang": "en" if n < 5 else "de"} for n in range(10)]
    )


def test_a_file_with_the_name_of_a_split_is_that_split(tmp_path: Path, home: Home) -> None:
    for name, split in [("train.csv", "train"), ("dev.csv", "validation"), ("rows.csv", "")]:
        (tmp_path / name).write_bytes(content(name))
        assert sources(home, tmp_path / name) == {split: {name}}


def test_members_of_archives_have_splits(tmp_path: Path, home: Home) -> None:
    (tmp_path / "all.zip").write_bytes(zipped(["x/train/a.csv", "x/test/a.csv"]))
    assert sources(home, tmp_path / "all.zip") == {
        "train": {"all.zip!/x/train/a.csv"},
        "test": {"all.zip!/x/test/a.csv"},
    }
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("train.zip", "my-test.zip"):
        (folder / name).write_bytes(zipped(["a.csv"]))
    assert sources(home, folder, ask=False) == {"train": {"train.zip!/a.csv"}, "test": {"my-test.zip!/a.csv"}}


def test_a_member_without_a_split_is_left_out_with_a_reason(tmp_path: Path, home: Home) -> None:
    (tmp_path / "all.zip").write_bytes(zipped(["train.csv", "test.csv", "extra.csv"]))
    prepared = prepare(home, str(tmp_path / "all.zip"))
    assert [s.name for part in prepared.plan.parts for s in part.shards] == ["all.zip!/train.csv", "all.zip!/test.csv"]
    ((name, why),) = prepared.plan.passed_over
    assert name == "all.zip!/extra.csv"
    assert "has no split" in why


def test_a_file_without_a_split_is_left_out_with_a_reason(tmp_path: Path, home: Home) -> None:
    Layout(["train.jsonl", "test.jsonl", "extra.jsonl"]).write(tmp_path / "x")
    ((name, why),) = prepare(home, str(tmp_path / "x")).plan.passed_over
    assert (name, "--split-by file" in why) == ("extra.jsonl", True)
    assert sources(home, tmp_path / "x", split_by="file")["extra"] == {"extra.jsonl"}


def test_a_name_that_says_two_splits_is_a_question(tmp_path: Path, home: Home) -> None:
    folder = Layout(["train_test.jsonl", "dev.jsonl"]).write(tmp_path / "x")
    with pytest.raises(
        ChoiceNeededError,
        match=r"train_test\.jsonl: its name contains the words of two splits, test and train\..*--split-by file",
    ) as caught:
        prepare(home, str(folder))
    assert caught.value.exit_code == 3
    assert sources(home, folder, split_by="none") == {"": {"train_test.jsonl", "dev.jsonl"}}
    assert sources(home, folder, split_by="file") == {"train_test": {"train_test.jsonl"}, "validation": {"dev.jsonl"}}


def test_few_names_with_a_split_among_many_without_are_a_question(tmp_path: Path, home: Home) -> None:
    folder = Layout(["iris.csv", "wine.csv", "cars.csv", "titanic_train.csv", "titanic_test.csv"]).write(tmp_path / "x")
    with pytest.raises(
        ChoiceNeededError, match=r"cars\.csv, iris\.csv, wine\.csv: 3 names have no split, but a few others have"
    ):
        prepare(home, str(folder))


def test_code_and_books_have_free_names(tmp_path: Path, home: Home) -> None:
    for name in ("train.py", "model.py", "tests/test_model.py"):
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_text("import os\n\nprint(os.name)\n")
    assert stored(home, tmp_path / "code").keys() == {""}
    (tmp_path / "books").mkdir()
    for name in ("the-test-of-time.txt", "emma.txt", "walden.txt", "training.txt"):
        (tmp_path / "books" / name).write_text("A long time ago there was a house by the sea. " * 20)
    assert stored(home, tmp_path / "books").keys() == {""}


def test_a_column_decides_the_split_of_each_row(tmp_path: Path, home: Home) -> None:
    file = parted(tmp_path / "rows.jsonl")
    found = stored(home, file, split_by="part")
    assert {split: numbers(rows) for split, rows in found.items()} == {
        "train": [0, 2, 4, 6, 8],
        "validation": [1, 3, 5, 7, 9],
    }
    found = stored(home, file, split_by="part", config_by="lang")
    assert {split: numbers(rows) for split, rows in found.items()} == {
        "en/train": [0, 2, 4],
        "en/validation": [1, 3],
        "de/validation": [5, 7, 9],
        "de/train": [6, 8],
    }
    found = stored(home, file, split_by="part", limit=4)
    assert {split: numbers(rows) for split, rows in found.items()} == {"train": [0, 2], "validation": [1, 3]}


def test_the_limit_of_divided_rows_does_not_depend_on_files_and_workers(tmp_path: Path, home: Home) -> None:
    for name in ("a", "b", "c"):
        parted(tmp_path / "x" / f"{name}.jsonl")
    prepared = prepare(home, str(tmp_path / "x"), name="x", wishes=Wishes(split_by="part", limit=13, ask=False))
    revisions = {ingest(home, prepared, workers=workers).entry.revision for workers in (1, 2)}
    assert len(revisions) == 1
    assert {split: rows for _, split, rows in open_revision(home, revisions.pop()).splits()} == {
        "train": 7,
        "validation": 6,
    }


def test_a_column_with_the_name_split_decides_unasked(tmp_path: Path, home: Home) -> None:
    rows = [{"source": "x", "number": n, "split": "test" if n == 3 else "train"} for n in range(5)]
    file = lines(tmp_path / "rows.jsonl", rows)
    assert {s: numbers(r) for s, r in stored(home, file).items()} == {"train": [0, 1, 2, 4], "test": [3]}
    assert stored(home, file, split_by="none").keys() == {""}
    file = lines(tmp_path / "parts.jsonl", [row | {"split": f"part {row['number']}"} for row in rows])
    assert stored(home, file).keys() == {""}


def test_a_row_without_a_value_in_the_column_has_no_split(tmp_path: Path, home: Home) -> None:
    file = lines(
        tmp_path / "rows.jsonl", [{"source": "x", "number": n, "part": None if n else "train"} for n in range(5)]
    )
    assert {s: numbers(r) for s, r in stored(home, file, split_by="part").items()} == {"train": [0], "": [1, 2, 3, 4]}


def test_a_folder_decides_the_split_and_the_config(tmp_path: Path, home: Home) -> None:
    folder = Layout(["en/hard/a.jsonl", "en/train/a.jsonl", "de/train/a.jsonl"]).write(tmp_path / "x")
    assert sources(home, folder, split_by="folder:2", config_by="folder:1") == {
        "en/hard": {"en/hard/a.jsonl"},
        "en/train": {"en/train/a.jsonl"},
        "de/train": {"de/train/a.jsonl"},
    }
    assert sources(home, folder, split_by="folder:-1") == sources(home, folder, split_by="folder:2")


def test_options_that_name_nothing_say_what_there_is(tmp_path: Path, home: Home) -> None:
    file = parted(tmp_path / "train.jsonl")
    with pytest.raises(MissingFieldError, match=r"no field 'parts'.*part"):
        prepare(home, str(file), wishes=Wishes(split_by="parts"))
    with pytest.raises(InvalidOptionError, match="'x' is no level"):
        prepare(home, str(file), wishes=Wishes(split_by="folder:x"))
    with pytest.raises(InvalidOptionError, match=r"No such config or split\. There are: train\."):
        prepare(home, str(file), wishes=Wishes(split="test"))


def test_configs_are_never_merged(tmp_path: Path, home: Home) -> None:
    readme = "configs:\n- config_name: a\n  data_files: a.jsonl\n- config_name: b\n  data_files: b.jsonl"
    folder = Layout(["a.jsonl", "b.jsonl"], readme=readme).write(tmp_path / "x")
    with pytest.raises(ChoiceNeededError, match=r"has 2 configs: a, b\. Choose: --config a \| --config b"):
        prepare(home, str(folder))
    assert sources(home, folder, config="b") == {"b/train": {"b.jsonl"}}
    assert ("a.jsonl", "of a config or split that was not asked for") in prepare(
        home, str(folder), wishes=Wishes(config="b")
    ).plan.passed_over


def test_a_split_by_column_wins_over_a_readme(tmp_path: Path, home: Home) -> None:
    parted(tmp_path / "x" / "rows.jsonl")
    (tmp_path / "x" / "README.md").write_text("---\nconfigs:\n- config_name: a\n  data_files: rows.jsonl\n---\n")
    assert stored(home, tmp_path / "x", split_by="part").keys() == {"a/train", "a/validation"}
    assert stored(home, tmp_path / "x").keys() == {"a/train"}


def test_files_of_other_sorts_beside_the_data_change_nothing(tmp_path: Path) -> None:
    names = [
        "data/train-images-idx3-ubyte",
        "data/t10k-images-idx3-ubyte",
        "bin/get",
        "test/index.js",
        "index.js",
        "readme.md",
    ]
    splits = splits_of([SourceFile("", name) for name in names])
    assert splits["data/train-images-idx3-ubyte"] == "train"
    assert splits["data/t10k-images-idx3-ubyte"] == "test"
    assert splits["bin/get"] == ""


def test_a_document_of_splits_has_them(tmp_path: Path, home: Home) -> None:
    def rows(first: int, count: int) -> list[dict[str, Any]]:
        return [{"source": "x", "number": n} for n in range(first, first + count)]

    document = {"train": rows(0, 9), "oos_val": rows(20, 2), "test": rows(30, 3), "version": "1.0"}
    for name, dumped in (("rows.json", document), ("both/rows.json", {"test": rows(0, 2), "train": rows(5, 9)})):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(dumped, indent=1))
    found = {split: numbers(rows) for split, rows in stored(home, tmp_path / "rows.json").items()}
    assert found == {"train": list(range(9)), "validation": [20, 21], "test": [30, 31, 32]}
    found = {split: numbers(rows) for split, rows in stored(home, tmp_path / "both").items()}
    assert found == {"test": [0, 1], "train": list(range(5, 14))}
    assert stored(home, tmp_path / "rows.json", split_by="none").keys() == {""}


def test_a_document_with_a_key_that_is_no_split_has_none(tmp_path: Path, home: Home) -> None:
    (tmp_path / "rows.json").write_text(json.dumps({"test": [{"a": 1}] * 9, "examples": [{"a": 2}]}))
    assert stored(home, tmp_path / "rows.json", as_kind="tabular").keys() == {""}


def test_tables_of_a_database_have_splits(tmp_path: Path, home: Home) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "x.db") as base:
        for name in ("train", "test"):
            base.execute(f"create table {name} (source text, number int)")
            base.execute(f"insert into {name} values ('x', 1)")
    base.close()
    assert {split: len(rows) for split, rows in stored(home, tmp_path / "x.db").items()} == {"train": 1, "test": 1}


def test_the_plan_shows_each_split(tmp_path: Path) -> None:
    folder = Layout(["train.jsonl", "train_2.jsonl", "test.jsonl"]).write(tmp_path / "x")

    def add(*more: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "choline_data",
            "add",
            str(folder),
            "--home",
            str(tmp_path / "home"),
            "--dry-run",
        ]
        return subprocess.run([*command, *more], capture_output=True, text=True, timeout=100, check=True)

    shown = add().stderr
    assert "split train: 2 files" in shown
    assert "split test: 1 file," in shown
    splits = json.loads(add("--json", "--split-by", "none").stdout)["splits"]
    assert [(s["split"], s["files"]) for s in splits] == [("", 3)]
    assert "splits: by the column number" in add("--split-by", "number").stderr
