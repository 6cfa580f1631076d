"""Documents keep the split of their file, and answers of benchmarks pass the self-check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.places.home import Home


def rows_of(tmp_path: Path, name: str, content: str) -> int:
    (tmp_path / name).write_text(content)
    home = Home(tmp_path / "home")
    return ingest(home, prepare(home, str(tmp_path / name), name="x")).rows


def test_documents_of_two_splits_are_planned_in_their_own_splits(tmp_path: Path) -> None:
    names = [f"{split}/{n}.txt" for split in ("test", "train") for n in range(3)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("The old man saw the sea. He went home to his friend.\n")
    plan = prepare(Home("/nowhere"), str(tmp_path), wishes=Wishes()).plan
    planned = {(shard.split, file.name) for part in plan.parts for shard in part.shards for file in shard.files}
    assert planned == {(name.partition("/")[0], name) for name in names}


def test_articles_whose_paragraphs_are_texts_pass_the_self_check(tmp_path: Path) -> None:
    articles = [{"title": f"T{n}", "paragraphs": [f"The old man saw the sea, {n}.", "He went home."]} for n in range(4)]
    assert rows_of(tmp_path, "articles.json", json.dumps({"version": "1", "data": articles})) == 4


def test_questions_of_several_articles_pass_the_self_check(tmp_path: Path) -> None:
    def article(n: int) -> dict[str, Any]:
        questions = [
            {"question": f"Who came {n}?", "id": f"{n}a", "answers": [], "is_impossible": True},
            {"question": f"Who left {n}?", "id": f"{n}b", "answers": [{"text": "the keeper", "answer_start": 0}]},
        ]
        return {"title": f"T{n}", "paragraphs": [{"context": f"the keeper of house {n} left it.", "qas": questions}]}

    document = {"version": "v2.0", "data": [article(n) for n in range(3)]}
    assert rows_of(tmp_path, "dev.json", json.dumps(document)) == 6


def test_answers_of_yes_and_no_pass_the_self_check(tmp_path: Path) -> None:
    rows = ({"question": f"is it {n}", "answer": n % 2 == 0, "passage": f"It is number {n}."} for n in range(4))
    assert rows_of(tmp_path, "dev.jsonl", "".join(json.dumps(row) + "\n" for row in rows)) == 4
