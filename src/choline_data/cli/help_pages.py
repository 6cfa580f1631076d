"""Help pages that fit the terminal: no word is cut, and no line is longer than the terminal or 100 columns."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

WIDEST = 100
NARROWEST = 30


class PageFormatter(typer.Context.formatter_class):  # type: ignore[misc, valid-type]  # typer has its own copy of click since 0.20
    """Writes a page in the width of the terminal. In a narrow one, each description begins on its own line."""

    def __init__(self, **_: Any) -> None:
        super().__init__(width=max(min(shutil.get_terminal_size().columns, WIDEST), NARROWEST) - 2)

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Writes names with their descriptions. At most a third of the width is for the names."""
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)


class HelpCommand(TyperCommand):
    """A command whose help fits the terminal."""

    def get_help(self, ctx: Any) -> str:
        """Returns the help page as text."""
        ctx.formatter_class = PageFormatter
        return super().get_help(ctx)


class HelpGroup(TyperGroup):
    """A group of commands whose help fits the terminal."""

    def get_help(self, ctx: Any) -> str:
        """Returns the help page as text."""
        ctx.formatter_class = PageFormatter
        return super().get_help(ctx)


class HelpTyper(typer.Typer):
    """An application whose commands and groups have these pages."""

    def __init__(self, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "cls": HelpGroup,
            "no_args_is_help": True,
            "add_completion": False,
            "pretty_exceptions_enable": False,
            "rich_markup_mode": None,
        }
        super().__init__(**{**defaults, **options})

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Returns a decorator that registers a function as a command."""
        return super().command(name, **{"cls": HelpCommand, **options})
