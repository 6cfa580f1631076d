"""The arguments of `add` after `--`: flags for a Beam runner."""

from __future__ import annotations

from typing import Any

import typer

from choline_data.cli.help_pages import HelpCommand


class EngineFlagsCommand(HelpCommand):
    """A command whose arguments after the first `--` are flags for the engine, and not its own arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments before `--`, and keeps those after it for `engine_flags`."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[__name__] = tuple(args[at + 1 :])
        return super().parse_args(ctx, args[:at])


def engine_flags(ctx: typer.Context) -> tuple[str, ...]:
    """Returns the arguments after `--`."""
    flags: tuple[str, ...] = ctx.meta[__name__]
    return flags
