"""A home with four small datasets, for the tests of mixes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def numbered() -> Callable[[str, int], dict[str, list[Any]]]:
    """Columns of `count` short texts."""
    return lambda word, count: {"text": [f"{word} {number}" for number in range(count)]}


@pytest.fixture
def library(shelf, numbered):
    """web (100 rows), code (10, Apache-2.0), books (40, MIT, longer) and chat (20, of kind chat, tagged talk)."""
    shelf.add("web", numbered("page", 100), license="NOASSERTION")
    shelf.add("code", numbered("line", 10), license="Apache-2.0")
    shelf.add("books", numbered("a much longer chapter", 40), license="MIT", language="en")
    turns = [[{"role": "user", "content": f"question {n}"}] for n in range(20)]
    shelf.add("chat", {"turns": turns}, kind="chat", tags=("talk",))
    return shelf
