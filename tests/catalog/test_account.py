"""Every file and every row of a source has an account."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.adapters.base import Reject, SourceChunk
from choline_data.catalog.account import RowsRead, check_rows, decode
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.catalog.repair import repair
from choline_data.cli import main as command_line
from choline_data.errors import DataError, SourceFormatError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.store import Catalog
from choline_data.store.manifest import accounts_of
from choline_data.store.object_names import account_name
from choline_data.upkeep.check import check
from choline_data.upkeep.garbage import collect

TEXT = Wishes(as_kind="text")


def put(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def rows(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def roles(place: object, **wishes: Any) -> dict[str, tuple[str, str]]:
    plan = prepare(Home("/nowhere"), str(place), wishes=Wishes(as_kind="text", **wishes)).plan
    return {file.name: (file.role, file.reason) for file in plan.account}


def said(*words: str) -> None:
    """Runs the command line in this process; it has to end well."""
    sys.argv = ["choline-data", *words]
    with pytest.raises(SystemExit, match="0"):
        command_line()


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    return put(
        tmp_path / "messy",
        **{
            "a.jsonl": rows("one", "two"),
            "b.jsonl": rows("three"),
            "README.md": "# A dataset",
            "_SUCCESS": "",
            "_temporary/0/a.jsonl": rows("half"),
            "c.jsonl.crdownload": rows("cut"),
            "d.jsonl.part": rows("cut"),
            ".a.jsonl.crc": "x",
            "__MACOSX/._a.jsonl": "x",
        },
    )


def test_every_file_has_a_role_and_a_reason(messy: Path) -> None:
    assert roles(messy) == {
        "a.jsonl": ("used", ""),
        "b.jsonl": ("used", ""),
        "README.md": ("described", ""),
        ".a.jsonl.crc": ("left out", "a checksum of the file beside it"),
        "__MACOSX/": ("left out", "written by macOS beside the data"),
        "_SUCCESS": ("left out", "a mark that a job has ended"),
        "_temporary/": ("left out", "output of a job that has not ended"),
        "c.jsonl.crdownload": ("left out", "an unfinished download"),
        "d.jsonl.part": ("left out", "an unfinished download"),
    }


def test_members_of_an_archive_have_a_role_too(tmp_path: Path, messy: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted(messy.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(messy).as_posix())
    found = roles(tmp_path / "all.zip")
    assert found["all.zip!/a.jsonl"] == ("used", "")
    assert found["all.zip!/README.md"][0] == "described"
    assert found["all.zip!/_temporary/0/a.jsonl"] == ("left out", "output of a job that has not ended")
    assert found["all.zip!/d.jsonl.part"] == ("left out", "an unfinished download")


def test_patterns_choose_files_and_members(tmp_path: Path, messy: Path) -> None:
    assert roles(messy, exclude=("b*",))["b.jsonl"] == ("left out", "--exclude b*")
    assert roles(messy, include=("b.jsonl",))["a.jsonl"] == ("left out", "not in --include b.jsonl")
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for name, text in {"x/a.jsonl": rows("one"), "y/b.jsonl": rows("two")}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    found = roles(tmp_path / "all.tar", include=("y",))
    assert found["all.tar!/x/a.jsonl"] == ("left out", "not in --include y")
    assert found["all.tar!/y/b.jsonl"] == ("used", "")


def test_a_pattern_that_leaves_nothing_names_the_files(messy: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"the patterns leave no file .*a\.jsonl, b\.jsonl"):
        roles(messy, include=("*.csv",))


def test_a_folder_of_leftovers_says_what_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, **{"a.jsonl.part": "x"})
    with pytest.raises(SourceNotFoundError, match=r"a\.jsonl\.part \(an unfinished download\)"):
        roles(tmp_path)


@pytest.mark.parametrize(
    ("mark", "what"),
    [
        ("_delta_log/00000000000000000000.json", "Delta Lake"),
        ("metadata/v1.metadata.json", "Iceberg"),
        (".hoodie/hoodie.properties", "Hudi"),
    ],
)
def test_the_files_of_a_table_format_are_never_read_one_by_one(tmp_path: Path, mark: str, what: str) -> None:
    put(tmp_path, **{"part-0.jsonl": rows("deleted"), mark: "{}"})
    with pytest.raises(SourceFormatError, match=what):
        roles(tmp_path)


def test_several_files_are_one_dataset(tmp_path: Path) -> None:
    put(tmp_path, **{"a.jsonl": rows("one"), "sub/b.jsonl": rows("two")})
    prepared = prepare(Home(tmp_path / "home"), [str(tmp_path / "a.jsonl"), str(tmp_path / "sub/b.jsonl")], wishes=TEXT)
    assert prepared.plan.name == "a-b"
    done = ingest(Home(tmp_path / "home"), prepared)
    assert [(f.name, f.rows) for f in done.account] == [("a.jsonl", 1), ("sub/b.jsonl", 1)]
    home = Home(tmp_path / "home")
    Path(home.path(account_name(done.entry.revision, accounts_of(home, done.entry.revision)["a-b"]))).unlink()
    assert not repair(home).left


def test_flags_of_an_engine_follow_two_dashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, **{"a.jsonl": rows("one"), "b.jsonl": rows("two")})
    words = ["add", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--as", "text", "--json"]
    said(*words, "--home", str(tmp_path / "home"), "--", "--some_flag=1")
    assert json.loads(capsys.readouterr().out)["rows"] == 2


def test_the_account_is_kept_with_the_revision_for_each_dataset(tmp_path: Path, messy: Path) -> None:
    home = Home(tmp_path / "home")
    first = ingest(home, prepare(home, str(messy), name="all", wishes=TEXT)).entry
    plain = put(tmp_path / "plain", **{"a.jsonl": rows("one", "two"), "b.jsonl": rows("three")})
    second = ingest(home, prepare(home, str(plain), name="plain", wishes=TEXT)).entry
    assert first.revision == second.revision
    kept = {
        name: decode(home.read(account_name(first.revision, digest)))
        for name, digest in accounts_of(home, first.revision).items()
    }
    assert kept["all"].num_rows == 9
    assert kept["plain"].select(["file", "role", "rows", "rejected"]).to_pylist() == [
        {"file": "a.jsonl", "role": "used", "rows": 2, "rejected": 0},
        {"file": "b.jsonl", "role": "used", "rows": 1, "rejected": 0},
    ]
    assert collect(home, keep_days=0).files == 0
    assert not check(home).faults


def test_a_damaged_account_is_found_and_made_again(tmp_path: Path, messy: Path) -> None:
    home = Home(tmp_path / "home")
    entry = ingest(home, prepare(home, str(messy), name="all", wishes=TEXT)).entry
    name = account_name(entry.revision, accounts_of(home, entry.revision)["all"])
    before = home.read(name)
    Path(home.path(name)).write_bytes(before[:-1] + b"x")
    assert [(f.kind, f.file) for f in check(home).faults] == [("files", name)]
    assert not repair(home).left
    assert home.read(name) == before


def test_show_files_lists_the_account(tmp_path: Path, messy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path / "home")
    ingest(home, prepare(home, str(messy), name="all", wishes=TEXT))
    said("show", "all", "--files", "--home", str(tmp_path / "home"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "used      a.jsonl  (2 rows)"
    assert "left out  d.jsonl.part  (an unfinished download)" in lines


def test_rejected_rows_are_part_of_the_account(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    put(tmp_path / "data", **{"a.jsonl": rows("one") + "[1]\n" + rows("two")})
    done = ingest(home, prepare(home, str(tmp_path / "data"), wishes=Wishes(as_kind="text", max_rejects=0.5)))
    assert (done.read, done.rows, done.rejected) == (3, 2, 1)
    assert [(f.rows, f.rejected) for f in done.account] == [(2, 1)]


def test_files_in_place_have_an_account(tmp_path: Path) -> None:
    from choline_data.catalog.register_in_place import register

    home = Home(tmp_path / "home")
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "data" / "a.parquet")
    done = register(home, prepare(home, str(tmp_path / "data"), name="p", wishes=TEXT))
    assert (done.read, [(f.name, f.rows) for f in done.account]) == (2, [("a.parquet", 2)])
    assert accounts_of(home, done.entry.revision).keys() == {"p"}
    assert not check(home).faults


def _chunk(*numbers: int, rejects: tuple[Reject, ...] = ()) -> SourceChunk:
    return SourceChunk(pa.record_batch({"x": list(numbers)}), np.array(numbers, np.int64), rejects)


def test_a_row_that_an_adapter_loses_is_found() -> None:
    read = RowsRead("a.csv")
    read.add(_chunk(0, 1, 3, rejects=(Reject("a.csv", 2, "odd"),)))
    assert check_rows([read.count(3, 1)]) == 4
    lost = RowsRead("a.csv")
    lost.add(_chunk(0, 1, 3))
    with pytest.raises(DataError, match=r"a\.csv: 4 rows were read, but 3 were published"):
        check_rows([lost.count(3, 0)])


def test_a_card_of_the_user_is_followed_and_not_read_as_text(tmp_path: Path) -> None:
    put(tmp_path, **{"data/a.jsonl": rows("one"), "data/b.jsonl": rows("two")})
    put(tmp_path, **{"mine.yaml": "name: mine\nsource: data\nkind: text\nlicense: MIT\nexclude: [b.jsonl]\n"})
    prepared = prepare(Home(tmp_path / "home"), str(tmp_path / "mine.yaml"))
    assert (prepared.plan.name, prepared.plan.constants["license"]) == ("mine", "MIT")
    assert [f.name for f in prepared.plan.account if f.role == "used"] == ["a.jsonl"]
    assert Catalog(Home(tmp_path / "home")).entries() == {}


def test_everyday_words_are_names_of_data_and_capitals_are_names_of_notices(tmp_path: Path) -> None:
    texts = {
        f"{name}.txt": f"A text about {name}, with a few words more.\n" * 3 for name in ("history", "news", "sport")
    }
    put(tmp_path, **texts, NEWS="Version 2 is out.", HISTORY="Version 1 was first.")
    assert {name: role for name, (role, _) in roles(tmp_path).items()} == {
        "history.txt": "used",
        "news.txt": "used",
        "sport.txt": "used",
        "NEWS": "described",
        "HISTORY": "described",
    }
