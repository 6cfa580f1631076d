"""For every hostile file, the real `add` gives the right rows or one typed error on one line."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.registry import FORMATS

FOLDERS = ("compress", "csv", "image", "ipc", "jsonl", "parquet", "tar", "text", "zip")
MAX_SECONDS = 300  # on a loaded machine; alone the slowest takes 50
MAX_MIB = 1024
AT_ONCE = 2

# What the manifest leaves open, or what an ingestion may do that a wire may not, and why.
ACCEPTED = {
    "ipc/schema_mismatch.arrows": "not our schema, but an ingestion maps any: a column of numbers is kind tabular",
    "jsonl/late_type_change.jsonl": "a column of several types is kept as JSON, each value as what it is",
    "jsonl/utf16.jsonl": "JSON Lines in UTF-16 with a byte order mark are read",
    "image/script.svg": "kept as bytes; whoever shows it decides",
    "tar/pickle_member.tar": "a pickle is bytes like any other and is never loaded",
    "tar/dup_names.tar": "the same key twice is two samples",
    "zip/dup.zip": "the same name twice is two samples",
}
ASKED = {"jsonl/latin1.jsonl"}  # several encodings fit its one letter
# 100 million rows that are true: whole they take a minute, and the first million show that the file is streamed.
FLAGS = {"parquet/bomb_100M_rows.parquet": ("--limit", "1000000")}
ROWS = {
    "compress/multi_member.jsonl.gz": 4,
    "csv/bom_semicolon.csv": 1,
    "csv/formula.csv": 2,
    "csv/nul.csv": 1,
    "jsonl/blank_lines.jsonl": 1,
    "jsonl/crlf.jsonl": 2,
    "jsonl/no_final_newline.jsonl": 2,
    "jsonl/u2028.jsonl": 1,
    "ipc/good.arrows": 300,
    "parquet/good.parquet": 300,
    "parquet/zero_rows.parquet": 0,
    "tar/case_collision.tar": 2,
    "tar/good.tar": 1,
    "tar/nfc_nfd.tar": 2,
    "tar/many_members.tar.gz": 100_000,
    "text/terminal_escapes.jsonl": 13,
    "text/xss_samples.jsonl": 30,
    "parquet/bomb_100M_rows.parquet": 1_000_000,
}


# What an `add` imports in most of a second, before the work that is watched here.
PRELOADED = [
    "choline_data.cli.add_command",
    "choline_data.catalog.runners",
    "pandas",
    "pyarrow.parquet",
    "typer.main",
] + [f.module for f in FORMATS if not f.extra]
SLOWEST = ("parquet/bomb_dict_200GB.parquet", "tar/many_members.tar.gz")  # begun first: the others fill the gaps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # the first test adds all files


@dataclass
class End:
    """How an `add` ended; `code` is "hang" or "died" where it did not end by itself."""

    code: int | str
    out: str
    err: str
    peak: int
    folder: Path

    @property
    def told(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        (line,) = self.err.strip().splitlines()
        return json.loads(line)["error"]


def add_all(sources: dict[str, Path], under: Path, flags: dict[str, tuple[str, ...]]) -> dict[str, End]:
    """Adds each source in a fresh child, AT_ONCE of them at once; a child over MAX_SECONDS is ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))  # the children import from here too
        return _add_all(sources, under, flags)


def _add_all(sources: dict[str, Path], under: Path, flags: dict[str, tuple[str, ...]]) -> dict[str, End]:
    from hostile_child import add

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ordered = sorted(sources.items(), key=lambda item: item[0] not in SLOWEST)
    waiting = deque(enumerate(ordered))
    running: dict[Any, tuple[str, Path, float]] = {}
    ends: dict[str, End] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            number, (name, path) = waiting.popleft()
            folder = under / f"{number:03d}"
            folder.mkdir()
            child = context.Process(target=add, args=(str(path), str(folder), flags.get(name, ())))
            child.start()
            running[child] = (name, folder, time.monotonic())
        multiprocessing.connection.wait([child.sentinel for child in running], timeout=1)
        for child, (name, folder, since) in list(running.items()):
            late = time.monotonic() - since > MAX_SECONDS
            if child.is_alive() and not late:
                continue
            if child.is_alive():
                child.kill()
            child.join()
            del running[child]
            told = folder / "end.json"
            if told.is_file():
                ends[name] = End(**json.loads(told.read_text()), folder=folder)
            else:
                ends[name] = End("hang" if late else "died", "", "", 0, folder)
            if (folder / "home" / "blocks").is_dir() and name == "parquet/bomb_100M_rows.parquet":
                shutil.rmtree(folder / "home")
    return ends


def cases(shared_data: Path) -> dict[str, dict[str, Any]]:
    """The cases of the manifest that are sources."""
    listed = json.loads((shared_data / "hostile" / "manifest.json").read_text())
    return {case["file"]: case for case in listed if case["file"].split("/")[0] in FOLDERS}


@pytest.fixture(scope="module")
def ends(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    """How each hostile file's `add` ended."""
    sources = {name: shared_data / "hostile" / name for name in cases(shared_data)}
    return add_all(sources, tmp_path_factory.mktemp("hostile"), FLAGS)


@pytest.fixture(scope="module")
def stated(shared_data: Path) -> dict[str, dict[str, Any]]:
    """What is expected of each."""
    return cases(shared_data)


def test_nothing_hangs_dies_or_shows_a_traceback(ends: dict[str, End]) -> None:
    bad = {
        name: (end.code, end.err[-300:])
        for name, end in ends.items()
        if end.code not in ((3,) if name in ASKED else (0, 1))
    }
    assert not bad
    assert not [name for name, end in ends.items() if "Traceback" in end.err]


def test_what_is_to_be_accepted_has_its_rows(ends: dict[str, End], stated: dict[str, dict[str, Any]]) -> None:
    refused = {
        name: ends[name].err
        for name, case in stated.items()
        if case["expect"] in ("accept", "accept-as-storage") and ends[name].code
    }
    assert not refused
    assert {name: ends[name].told["rows"] for name in ROWS} == ROWS


def test_what_is_to_be_rejected_is_not_taken_whole(ends: dict[str, End], stated: dict[str, dict[str, Any]]) -> None:
    strict = ("reject", "reject-row", "reject-by-checksum")
    taken = {name for name, case in stated.items() if case["expect"] in strict and ends[name].code == 0}
    assert not taken - ACCEPTED.keys()


def test_a_member_that_leads_out_is_passed_over_or_refused(
    ends: dict[str, End], stated: dict[str, dict[str, Any]]
) -> None:
    for name, case in stated.items():
        if case["expect"] == "reject-member-or-file" and ends[name].code == 0 and name not in ACCEPTED:
            assert ends[name].told["passed_over"] or ends[name].told["rejected"], name


def test_a_ragged_row_is_named(ends: dict[str, End]) -> None:
    error = ends["csv/ragged.csv"].error
    assert error["reason"] == "TOO_MANY_REJECTS"
    assert "2 of 3 rows" in error["message"]
    assert "ragged.csv, row 1: line 3: 1 fields, not 2" in error["message"]


def test_every_error_is_one_line_that_names_the_file_and_a_remedy(ends: dict[str, End]) -> None:
    for name, end in ends.items():
        if end.code:
            assert set(end.error) == {"reason", "message", "remedy"}, name
            stem = Path(name).name.split(".")[0]
            assert stem in end.error["message"], (name, end.error)
            assert end.error["message"].isprintable(), name
            assert end.error["reason"].isupper(), name


def test_every_error_says_what_to_do(ends: dict[str, End]) -> None:
    assert not {name: end.error["message"] for name, end in ends.items() if end.code and not end.error["remedy"]}


def test_no_file_takes_more_memory_than_is_stated(ends: dict[str, End], stated: dict[str, dict[str, Any]]) -> None:
    over = {n: e.peak for n, e in ends.items() if e.peak > stated[n].get("max_rss_mb", MAX_MIB)}
    assert not over


def test_nothing_is_written_but_in_the_home_and_nothing_is_unpickled(ends: dict[str, End]) -> None:
    for name, end in ends.items():
        assert not list((end.folder / "work").iterdir()), name
        assert {p.name for p in end.folder.iterdir()} <= {"home", "work", "end.json"}, name
    assert not Path("/tmp/choline_evil.txt").exists()


def test_no_file_of_this_machine_is_in_a_sample(ends: dict[str, End]) -> None:
    for name, end in ends.items():
        if name.startswith(("tar/", "zip/", "image/")):
            for file in (p for p in end.folder.rglob("*") if p.is_file() and p.stat().st_size < 8 << 20):
                assert b"root:x:0:0" not in file.read_bytes(), (name, file)


def test_a_folder_is_no_way_to_what_is_not_in_it(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("link", "fifo", "fifo_file", "locked", "broken")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "a.jsonl").write_text('{"text": "hello there"}\n')
    (folders["link"] / "b.jsonl").symlink_to("/etc/passwd")
    os.mkfifo(folders["fifo"] / "b.jsonl")
    os.mkfifo(folders["fifo_file"] / "b.jsonl")
    (folders["locked"] / "b.jsonl").write_text("{}")
    (folders["locked"] / "b.jsonl").chmod(0)
    (folders["broken"] / "b.jsonl").symlink_to("nowhere")
    sources = {**folders, "fifo_file": folders["fifo_file"] / "b.jsonl"}
    (tmp_path / "ends").mkdir()
    ends = add_all(dict(sources), tmp_path / "ends", {})
    assert ends["link"].error["reason"] == "LOCATION_FORBIDDEN"
    assert ends["fifo_file"].error["reason"] == "LOCATION_FORBIDDEN"
    assert ends["broken"].error["reason"] == "SOURCE_NOT_FOUND"
    assert (ends["fifo"].code, ends["fifo"].told["rows"]) == (0, 1)
    if os.geteuid():
        assert ends["locked"].error["reason"] in ("PERMISSION_DENIED", "SOURCE_NOT_FOUND")
