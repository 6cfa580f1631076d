"""Questions of `add` at a terminal: each answer that is a whole option can be chosen by its number."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from choline_data.catalog.planning import Wishes
from choline_data.cli.asking import answers_to


@pytest.mark.parametrize(
    ("remedy", "changed"),
    [
        ("Choose: --as chat | --as qa", [Wishes(as_kind="chat"), Wishes(as_kind="qa")]),
        ("Choose: --encoding cp1252, --encoding cp1250.", [Wishes(encoding="cp1252"), Wishes(encoding="cp1250")]),
        (
            "--as tabular reads it as a table, --as text as plain text.",
            [Wishes(as_kind="tabular"), Wishes(as_kind="text")],
        ),
        (
            "Choose: --header 'a b.csv'=2-3 (line 2 …) | --header none (all) | --delimiter a.csv=CHARACTER (if …)",
            [Wishes(header="a b.csv=2-3"), Wishes(header="none")],
        ),
        (
            "Choose: --exclude 'x.json' --exclude 'y.json' (leave them out) | --join 'a.csv:COLUMN' (the column)",
            [Wishes(exclude=("x.json", "y.json"))],
        ),
        (
            "Choose: --config-by file (each file) | --include 'a.csv' (only this) | --include 'a.csv' --include 'b.csv' … (all)",
            [Wishes(config_by="file"), Wishes(include=("a.csv",))],
        ),
    ],
)
def test_the_answers_of_a_question(remedy: str, changed: list[Wishes]) -> None:
    assert [answer.add_to(Wishes()) for answer in answers_to(remedy)] == changed


def test_an_answer_for_a_second_file_keeps_the_first() -> None:
    (answer,) = answers_to("Choose: --header b.csv=none (all lines)")
    assert answer.add_to(Wishes(header="a.csv=1")).header == "a.csv=1,b.csv=none"


def test_two_questions_are_answered_at_the_terminal(tmp_path: Path) -> None:
    towns = "Alice,Berlin\nBob,Paris\nCarl,Rome\nDave,Oslo\nEve,Bonn\n"
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(towns if name == "a.csv" else towns.replace("Eve", "Eva"))
    command = [sys.executable, "-m", "choline_data", "add", str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    ours, theirs = pty.openpty()
    options = ["--home", str(tmp_path / "home"), "--name", "towns", "--dry-run", "--include", "*.csv"]
    with subprocess.Popen([*command, *options], stdin=theirs, stdout=theirs, stderr=theirs) as child:
        os.close(theirs)
        os.write(ours, b"2\n2\n")
        said = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the child has closed the terminal
                break
            if not piece:
                break
            said += piece
    os.close(ours)
    assert child.returncode == 0, said.decode()
    assert said.count(b"Which? [1-2]") == 2
    assert b"column_0" in said
