"""Finds the card that a user names: a packaged card by its name, or a card file of the user."""

from __future__ import annotations

import os
from dataclasses import replace

from choline_data.catalog.cards import MAX_CARD_BYTES, Card, load_card, packaged_names
from choline_data.places.locations import is_url


def card_at(location: str) -> Card | None:
    """Returns the packaged card with this name, or the card in this YAML file. None if the location is neither.

    The path in a user's card starts at the folder of the card.
    """
    if os.path.isfile(location):
        return _own_card(location) if is_card_file(location) else None
    if "/" in location or ":" in location or location not in packaged_names():
        return None
    return load_card(location)


def is_card_file(path: str) -> bool:
    """Whether a local file is a card: YAML whose top-level keys contain `name` and `source`."""
    if not path.lower().endswith((".yaml", ".yml")) or os.path.getsize(path) > MAX_CARD_BYTES:
        return False
    with open(path, "rb") as file:
        lines = file.read(MAX_CARD_BYTES).splitlines()
    keys = {line.partition(b":")[0] for line in lines if line[:1].isalpha() and b":" in line}
    return {b"name", b"source"} <= keys


def _own_card(path: str) -> Card:
    card = load_card(path)
    if is_url(card.source) or os.path.isabs(card.source):
        return card
    beside = os.path.join(os.path.dirname(path), card.source)
    return replace(card, source=beside) if os.path.exists(beside) else card
