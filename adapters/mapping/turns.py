"""Reads conversations of every common shape as turns. Values that turns cannot hold are returned separately."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.mapping.extra import (
    TEXT,
    concat,
    dumps,
    is_text,
    json_lists,
    json_object,
    json_text,
)
from choline_data.adapters.mapping.roles import CONTENT_KEYS, ROLE_KEYS, USUAL, flat_turns, role_of, roles_by_turn
from choline_data.schema import TURN

TURNS = pa.list_(TURN)
_CALLS = ("tool_calls", "function_call")
_TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant|System): ?")


@dataclass
class Talk:
    """A conversation: (role, content) pairs in `turns`, and the remaining keys of each turn in `rest`.

    `beside` holds the other keys of an object around the turns, and `under` is the key under which the object has the
    turns. If the value is not a conversation, `fault` gives the reason.
    """

    turns: list[tuple[str, str | None]] = field(default_factory=list)
    rest: list[dict[str, Any]] = field(default_factory=list)
    fault: str = ""
    beside: dict[str, Any] = field(default_factory=dict)
    under: str = ""

    @property
    def left(self) -> str | None:
        """Returns, as JSON text, the values that the turns do not contain. Returns None if there are none."""
        if self.beside:
            return dumps({**self.beside, **({self.under: self.rest} if any(self.rest) else {})})
        return dumps(self.rest) if any(self.rest) else None


def read(value: Any) -> Talk:
    """Reads one conversation: a list of turns, of strings or of pairs, a single turn, or a transcript. Never raises."""
    if isinstance(value, str):
        return _transcript(value)
    if isinstance(value, dict):
        for key in ("messages", "conversations", "conversation", "turns"):
            if isinstance(value.get(key), list):
                talk = read(value[key])
                talk.beside, talk.under = {k: v for k, v in value.items() if k != key and v is not None}, key
                return talk
        value = [value]
    if not isinstance(value, list):
        return Talk(fault="is null" if value is None else "is no conversation")
    if not value:
        return Talk(fault="has no turns")
    if all(isinstance(v, str) for v in value):
        return Talk([(("user", "assistant")[i % 2], v) for i, v in enumerate(value)], [{} for _ in value])
    value = flat_turns(value)
    if all(isinstance(v, list) and len(v) == 2 and not any(isinstance(s, dict) for s in v) for v in value):
        pieces = [s for pair in value for s in zip(("user", "assistant"), pair, strict=True)]
        pieces = [(role, text if text is None or isinstance(text, str) else dumps(text)) for role, text in pieces]
        return Talk(pieces, [{} for _ in pieces])
    if not all(isinstance(v, dict) for v in value):
        return Talk(fault="mixes turns with other values")
    return _turns(value)


def _turns(items: list[dict[str, Any]]) -> Talk:
    keys = {key for item in items for key in item}
    if "turns" in keys and isinstance(items[0].get("turns"), list):  # replies to another file's questions (MT-Bench)
        reply_texts = [str(text) for text in items[0]["turns"] if text is not None]
        return Talk(
            [("assistant", text) for text in reply_texts],
            [{} for _ in reply_texts],
            "" if reply_texts else "has no turns",
        )
    role_key = next((k for k in ROLE_KEYS if k in keys), None)
    content_key = next((k for k in CONTENT_KEYS if k in keys), None)
    if role_key is None and {"user", "assistant"} & keys:
        return _pairs(items)
    if role_key is None or (content_key is None and not keys & set(_CALLS)):
        return Talk(fault=f"has turns without a role or a content (their keys: {', '.join(sorted(keys)[:8])})")
    names = [_name(item.get(role_key)) for item in items]
    talk = Talk()
    usual = USUAL.get(role_key, {})
    for item, name, role in zip(items, names, roles_by_turn(names), strict=True):
        left = {k: v for k, v in item.items() if k not in (role_key, content_key) and v is not None}
        if name is None or usual.get(name) != role or item.get(role_key) != name:
            left[role_key] = item.get(role_key)
        content, exact = _content(item, content_key)
        if not exact:
            left[content_key or "content"] = item.get(content_key or "content")
        talk.turns.append((role, content))
        talk.rest.append(left)
    return talk


def _name(value: Any) -> str | None:
    if isinstance(value, dict):  # ChatGPT exports: author: {role, name}
        value = value.get("role")
    return value if isinstance(value, str) else None if value is None else str(value)


def _content(item: dict[str, Any], key: str | None) -> tuple[str | None, bool]:
    """Returns a turn's text, and whether it equals the value of the content key unchanged."""
    value = item.get(key) if key else None
    exact = value is None or isinstance(value, str)
    text: str | None = value if exact else _parts(value)
    calls = [call for k in _CALLS if item.get(k) for call in (item[k] if isinstance(item[k], list) else [item[k]])]
    if calls:
        # Written as in the Hermes template, so that a model sees the call to which the tool replies.
        blocks = "\n".join(f"<tool_call>\n{_call(call)}\n</tool_call>" for call in calls)
        return (f"{text}\n{blocks}" if text else blocks), False
    return text, exact


def _call(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, dict) else call
    if isinstance(function, str):
        return function
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        with contextlib.suppress(orjson.JSONDecodeError):
            function = {**function, "arguments": orjson.loads(function["arguments"])}
    return dumps(function)


def _parts(value: Any) -> str:
    """Returns the texts of a content that has parts, one on each line. Other parts, such as pictures, stay in `extra`."""
    if isinstance(value, dict):
        value = value["parts"] if isinstance(value.get("parts"), list) else [value]
    if not isinstance(value, list):
        return dumps(value)
    texts = [part if isinstance(part, str) else part.get("text") for part in value if isinstance(part, (str, dict))]
    return "\n".join(text for text in texts if isinstance(text, str))


def _pairs(items: list[dict[str, Any]]) -> Talk:
    """Returns turns from items with the keys `system`, `user` and `assistant`: one turn for each key that holds a string."""
    talk = Talk()
    for item in items:
        left = {k: v for k, v in item.items() if k not in ("system", "user", "assistant") and v is not None}
        for role in ("system", "user", "assistant"):
            if isinstance(item.get(role), str):
                talk.turns.append((role, item[role]))
                talk.rest.append(left)
                left = {}
    return talk if talk.turns else Talk(fault="has no turns")


def _transcript(text: str) -> Talk:
    """Reads `\\n\\nHuman: … \\n\\nAssistant: …` as turns. Any other text is one user turn."""
    marks = list(_TRANSCRIPT.finditer(text))
    if not marks or marks[0].start() > 0:
        return Talk([("user", text)], [{}]) if text else Talk(fault="is empty")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = [(role_of(m.group(1)) or "user", text[m.end() : end]) for m, end in zip(marks, ends, strict=True)]
    return Talk([(role, content) for role, content in turns], [{} for _ in turns])


def as_array(talks: list[Talk]) -> pa.Array:
    """Returns the talks as a column of turns. A talk without turns is an empty list."""
    roles = pa.array([role for talk in talks for role, _ in talk.turns], pa.string())
    contents = pa.array([content for talk in talks for _, content in talk.turns], TEXT)
    offsets = np.zeros(len(talks) + 1, np.int32)
    np.cumsum([len(talk.turns) for talk in talks], out=offsets[1:])
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.StructArray.from_arrays([roles, contents], fields=list(TURN)), type=TURNS
    )


def from_structs(column: pa.Array) -> tuple[pa.Array, pa.Array | None] | None:
    """Converts list<struct<role, content, …>> to (turns, rest) by columns. None if the rows must be read one by one.

    The result is identical to that of `read` on each row.
    """
    t = pa.types
    if not (t.is_list(column.type) or t.is_large_list(column.type)) or not t.is_struct(column.type.value_type):
        return None
    kind = column.type.value_type
    keys = [f.name for f in kind]
    role_key = next((k for k in ROLE_KEYS if k in keys), None)
    content_key = next((k for k in CONTENT_KEYS if k in keys), None)
    if role_key is None or content_key is None or len(set(keys)) != len(keys) or column.null_count:
        return None
    items = column.flatten()
    if items.null_count:
        return None
    parts = dict(zip(keys, items.flatten(), strict=True))
    if not is_text(parts[role_key].type) or not is_text(parts[content_key].type):
        return None
    if any(parts[k].null_count < len(items) for k in _CALLS if k in parts):
        return None
    names = parts[role_key].cast(pa.string()).dictionary_encode()
    known = [role_of(n) if n is not None else None for n in names.dictionary.to_pylist()]
    if names.null_count or None in known:
        return None
    roles = pa.array(known, pa.string()).take(names.indices)
    usual = USUAL.get(role_key, {})
    common = [usual.get(n) == r for n, r in zip(names.dictionary.to_pylist(), known, strict=True)]
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(column) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    contents = parts[content_key].cast(TEXT)
    turns = pa.ListArray.from_arrays(
        pa.array(offsets), pa.StructArray.from_arrays([roles, contents], fields=list(TURN)), type=TURNS
    )
    return turns, _rest(kind, parts, role_key, content_key, pa.array(common, pa.bool_()).take(names.indices), column)


def _rest(
    kind: pa.DataType,
    parts: dict[str, pa.Array],
    role_key: str,
    content_key: str,
    common: pa.Array,
    column: pa.Array,
) -> pa.Array | None:
    pieces = []
    for field_ in kind:
        values = parts[field_.name]
        if field_.name == content_key:
            continue
        if field_.name == role_key:
            there = pc.invert(common)
        else:
            there = pc.is_valid(values)
        if not pc.any(there).as_py():
            continue
        text = concat(orjson.dumps(field_.name).decode() + ":", json_text(values, field_))
        pieces.append(pc.if_else(there, text, pa.scalar(None, TEXT)))
    if not pieces:
        return None
    objects = json_object(pieces, len(common))
    lists = json_lists(column, pc.fill_null(objects, pa.scalar("{}", TEXT)), "[", "]")
    bare = json_lists(column, pa.array(["{}"], TEXT).take(pa.array(np.zeros(len(common), np.int64))), "[", "]")
    return pc.if_else(pc.equal(lists, bare), pa.scalar(None, TEXT), lists)
