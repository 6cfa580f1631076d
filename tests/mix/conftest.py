"""A library of small datasets, for the tests of mixes, filters and explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def library(shelf: Any, numbered: Callable[[str, int], dict[str, list[Any]]]) -> Any:
    """web (100 rows), code (10), books (40, MIT) and chat (20, of kind chat, tagged talk)."""
    shelf.add("web", numbered("page", 100), license="NOASSERTION")
    shelf.add("code", numbered("line", 10), license="Apache-2.0")
    shelf.add("books", numbered("a much longer chapter", 40), license="MIT", language="en")
    turns = [[{"role": "user", "content": f"question {n}"}] for n in range(20)]
    shelf.add("chat", {"turns": turns}, kind="chat", tags=("talk",))
    return shelf
