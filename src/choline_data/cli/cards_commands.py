"""The command `cards check`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from choline_data.cli.help_pages import HelpTyper
from choline_data.cli.shared_options import JsonOption

cards_app = HelpTyper(help="Work with cards.")


@cards_app.callback()
def cards() -> None:
    """Work with cards."""


@cards_app.command("check")
def cards_check(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Cards of the package, or card files.")],
    as_json: JsonOption = False,
) -> None:
    """Compare cards with the hub.

    Says for each fact of a card whether it is right, differs from what the hub states, or cannot be verified. Exits with
    code 1 if a fact differs.
    """
    from choline_data.catalog.card_check import DIFFERS, check_card
    from choline_data.catalog.cards import load_card
    from choline_data.cli.output import emit, shown

    differs = False
    for name in names:
        card = load_card(name)
        for fact in check_card(card):
            differs = differs or fact.state == DIFFERS
            if as_json:
                emit({"name": card.name, **vars(fact)})
            else:
                stated = f"; the hub states {shown(fact.hub, 160)}" if fact.hub and fact.hub != fact.card else ""
                sys.stdout.write(f"{card.name}  {fact.state:12}  {fact.field}: {shown(fact.card, 120)}{stated}\n")
    raise typer.Exit(1 if differs else 0)
