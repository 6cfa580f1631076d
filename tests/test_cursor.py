"""The cursor is short text. It is refused if a single bit of it is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data.errors import InvalidCursorError
from choline_data.order.cursor import Cursor

DIGEST = "0123456789abcdef" * 4


@given(st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 10**18 - 1))
def test_what_was_written_is_read_back(recipe, position):
    text = Cursor(recipe, position).encode()
    assert Cursor.decode(text) == Cursor(recipe, position)
    assert Cursor.decode(text).encode() == text
    assert len(text) <= 128


def test_the_text_of_a_cursor_never_changes():
    # Written by the first release: it must be read by every later one.
    text = f"chl1.{DIGEST}.12345.3c36563ed698c94c"
    assert Cursor(DIGEST, 12345).encode() == text
    assert Cursor.decode(text).position == 12345


def test_every_change_of_one_bit_is_refused():
    raw = Cursor(DIGEST, 1234567).encode().encode()
    for byte in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[byte] ^= 1 << bit
            with pytest.raises(InvalidCursorError):
                Cursor.decode(changed.decode("latin-1"))


def test_every_cut_and_every_addition_is_refused():
    text = Cursor(DIGEST, 7).encode()
    for bad in (
        *(text[:end] for end in range(len(text))),
        text + "0",
        text + "\n",
        " " + text,
        text * 2,
        "x" * 10**6,
    ):
        with pytest.raises(InvalidCursorError, match="damaged"):
            Cursor.decode(bad)


def test_a_position_has_one_spelling():
    import xxhash

    for position in ("007", "-1", "1" * 19, "+7", "٣"):
        body = f"chl1.{DIGEST}.{position}"
        with pytest.raises(InvalidCursorError):
            Cursor.decode(f"{body}.{xxhash.xxh3_64_hexdigest(body.encode())}")


@pytest.mark.parametrize("text", ["chl2.whatever", "chl10.x", f"chl9.{DIGEST}.5.0123456789abcdef"])
def test_a_newer_cursor_says_to_upgrade(text):
    with pytest.raises(InvalidCursorError, match=r"newer version. Upgrade choline-data"):
        Cursor.decode(text)


@given(st.text(max_size=150))
def test_any_text_is_a_cursor_or_a_stated_error(text):
    with pytest.raises(InvalidCursorError):
        Cursor.decode(text)


def test_each_refusal_says_what_to_do():
    good = Cursor(DIGEST, 7).encode()
    for text, says in {
        "": "The cursor is damaged or not a cursor. Pass the cursor unchanged.",
        good[:-1] + ("0" if good[-1] != "0" else "1"): (
            "The cursor is damaged: its checksum is wrong. Pass the cursor unchanged."
        ),
        "chl2.x": "The cursor was written by a newer version. Upgrade choline-data.",
    }.items():
        with pytest.raises(InvalidCursorError) as caught:
            Cursor.decode(text)
        assert str(caught.value) == says
