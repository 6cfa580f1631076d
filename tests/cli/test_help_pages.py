"""The help of every command fits the terminal, and no word in it is cut."""

from __future__ import annotations

import pytest
import typer.main
from typer.testing import CliRunner

from choline_data.cli.app import app


def words(command: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of this command and of all commands below it."""
    below = getattr(command, "commands", {})
    return [path, *(found for name, child in below.items() for found in words(child, (*path, name)))]


COMMANDS = words(typer.main.get_command(app))


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_of_a_help_page_is_longer_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert len(COMMANDS) > 18
    for command in COMMANDS:
        page = CliRunner().invoke(app, [*command, "--help"], prog_name="choline-data")
        assert page.exit_code == 0
        assert max(map(len, page.output.splitlines())) <= min(columns, 100), command


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_narrow_help_page_has_the_words_of_the_wide_one(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    for columns in ("40", "80", "100"):
        monkeypatch.setenv("COLUMNS", columns)
        pages.append(CliRunner().invoke(app, [*command, "--help"], prog_name="choline-data").output.split())
    assert pages[0] == pages[1] == pages[2]
    assert not [word for word in pages[0] if word.endswith("...") and word.rstrip(".").isalpha() and word.islower()]


def test_each_parameter_of_each_command_is_explained() -> None:
    def check(command: object) -> None:
        for child in getattr(command, "commands", {}).values():
            check(child)
        for parameter in getattr(command, "params", []):
            assert parameter.name == "help" or (parameter.help or "").endswith("."), (command, parameter.name)

    check(typer.main.get_command(app))
