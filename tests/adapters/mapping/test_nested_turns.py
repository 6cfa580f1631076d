"""Conversations whose turns are in lists, and rows of several conversations."""

from __future__ import annotations

import pytest

from choline_data.adapters.mapping import turns
from choline_data.adapters.mapping.mapped_columns import turns_shape


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


@pytest.mark.parametrize(
    ("value", "spoken"),
    [
        ([[said("user", "a")]], [("user", "a")]),
        ([[said("user", "a")], [said("user", "b")]], [("user", "a"), ("user", "b")]),
        (
            [[said("system", "s"), said("user", "a")], [said("user", "b"), said("assistant", "c")]],
            [("system", "s"), ("user", "a"), ("user", "b"), ("assistant", "c")],
        ),
    ],
)
def test_nested_turns_are_one_conversation(value, spoken):
    assert turns_shape([value]) == "messages"
    assert turns.read(value).turns == spoken


@pytest.mark.parametrize(
    "value",
    [
        [[said("user", "a"), said("assistant", "b")], [said("user", "a"), said("assistant", "c")]],
        [[said("user", "a")], [said("system", "s"), said("user", "b")]],
    ],
)
def test_several_conversations_do_not_become_one(value):
    assert turns_shape([value]) == ""
    assert turns.read(value).fault
