"""Every dataset of the second collection is added with its true rows and kind, or is asked about or refused by name."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# What `add` asks about, and the options that answer.
ANSWERS: dict[str, tuple[str, ...]] = {
    "moby_dick": ("--include", "*.txt", "--include", "*.json"),
    "movies_sqlite/movies.db": ("--as", "tabular", "--config-by", "table"),
}
OPTIONS = {**ANSWERS, "semicolon_cp1252/laender.csv": ("--encoding", "cp1252")}  # a detector may not be installed
# What is not read: the words with which the error names the format.
REFUSED = {
    "kanjidic": "a table of fixed width",
}
KINDS = {
    "bfcl/possible_answer/BFCL_v4_parallel.json": "tabular",  # the answer key calls rows without a text "json"
    "column_json_and_more/USHolidays.ics": "tabular",  # the answer key expects lines of text, not events
}


def _generator() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "docs" / "generate_formats.py"
    spec = importlib.util.spec_from_file_location("generate_formats", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()
_HERE = Path(__file__).resolve().parents[2] / "shared" / "data" / "second" / "expected.json"
EXPECTED: dict[str, Any] = json.loads(_HERE.read_text())["healthy"] if _HERE.exists() else {}
RIGHT = [name for name in EXPECTED if name not in REFUSED]


@pytest.mark.parametrize("name", RIGHT)
def test_a_set_has_its_true_rows_and_kind(shared_data: Path, tmp_path: Path, name: str) -> None:
    end = GENERATOR.added(shared_data / "second" / name, tmp_path / "home", *OPTIONS.get(name, ()))
    assert end.code == 0, end.error
    rows = EXPECTED[name]["expected_rows"]
    kind = KINDS.get(name, EXPECTED[name]["kind"])
    assert (end.told["rows"], end.told["kind"]) == (sum(rows.values()) if isinstance(rows, dict) else rows, kind)
    assert end.told["read"] == end.told["rows"] + end.told["rejected"]


@pytest.mark.parametrize("name", [name for name in ANSWERS if name in EXPECTED])
def test_a_set_that_can_be_read_in_two_ways_is_asked_about(shared_data: Path, tmp_path: Path, name: str) -> None:
    end = GENERATOR.added(shared_data / "second" / name, tmp_path / "home")
    assert (end.code, end.error["reason"]) == (3, "CHOICE_NEEDED")
    assert ANSWERS[name][0] in end.error["remedy"]


@pytest.mark.parametrize("name", [name for name in REFUSED if name in EXPECTED])
def test_a_set_that_is_not_read_is_refused_by_name(shared_data: Path, tmp_path: Path, name: str) -> None:
    end = GENERATOR.added(shared_data / "second" / name, tmp_path / "home")
    assert (end.code, end.error["reason"]) == (1, "SOURCE_FORMAT")
    assert REFUSED[name] in end.error["message"]


@pytest.mark.parametrize(("pattern", "rows"), [("*.json", 139), ("*.txt", 139)])
def test_one_form_of_a_set_that_has_two_is_chosen_by_a_pattern(
    shared_data: Path, tmp_path: Path, pattern: str, rows: int
) -> None:
    end = GENERATOR.added(shared_data / "second" / "moby_dick", tmp_path / "home", "--include", pattern)
    assert (end.code, end.told.get("rows"), end.told.get("kind")) == (0, rows, "text"), end.error


@pytest.mark.parametrize("name", ["librivox", "cards"])
def test_the_transcripts_of_sphinx_are_joined(shared_data: Path, tmp_path: Path, name: str) -> None:
    from choline_data.catalog.add import prepare
    from choline_data.places.home import Home

    plan = prepare(Home(tmp_path), str(shared_data / "second" / "sphinx_speech" / name)).plan
    assert sorted(f.role for f in plan.account) == ["joined"] * 2 + ["used"] * 5
    spoken = {
        row["transcription"]
        for part in plan.parts
        for shard in part.shards
        for chunk in part.adapter.read(shard)
        for row in chunk.batch.select(["transcription"]).to_pylist()
    }
    assert len(spoken) == 5
    assert None not in spoken
    assert not any("<s>" in text or "(" in text for text in spoken)
