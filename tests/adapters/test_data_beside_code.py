"""JSON data beside programs: the user says whether the folder is data or source code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from choline_data.catalog.add import prepare
from choline_data.catalog.planning import Wishes
from choline_data.errors import ChoiceNeededError
from choline_data.places.home import Home


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "towns"
    folder.mkdir()
    (folder / "towns.json").write_text(json.dumps([{"name": f"town {n}", "people": n} for n in range(50)]))
    (folder / "towns.d.ts").write_text("export interface Town { name: string }\n")
    (folder / "index.js").write_text("module.exports = require('./towns.json')\n")
    (folder / "package.json").write_text('{"name": "towns", "version": "1.0.0"}')
    return folder


def test_data_larger_than_the_programs_are_a_question(package: Path, tmp_path: Path) -> None:
    with pytest.raises(ChoiceNeededError, match="JSON data: towns") as asked:
        prepare(Home(tmp_path / "home"), str(package))
    assert "--include '*.json' --exclude package.json" in asked.value.remedy
    assert "--format source-tree" in asked.value.remedy


@pytest.mark.parametrize(
    ("wishes", "adapter", "files"),
    [
        (Wishes(include=("*.json",), exclude=("package.json",)), "JsonDocument", 1),
        (Wishes(format="source-tree"), "SourceTree", 4),
    ],
)
def test_each_answer_works(package: Path, tmp_path: Path, wishes: Wishes, adapter: str, files: int) -> None:
    (part,) = prepare(Home(tmp_path / "home"), str(package), wishes=wishes).plan.parts
    assert type(part.adapter).__name__ == adapter
    assert sum(max(len(shard.files), 1) for shard in part.shards) == files


def test_settings_in_json_are_source_code(package: Path, tmp_path: Path) -> None:
    (package / "towns.json").unlink()
    (package / "tsconfig.json").write_text(json.dumps({"include": ["x" * 40] * 40}))
    (part,) = prepare(Home(tmp_path / "home"), str(package)).plan.parts
    assert type(part.adapter).__name__ == "SourceTree"
