"""Forms for conversations: lists of turns, prompts with replies, preferences, trees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from choline_data.adapters.mapping import turns as talk
from choline_data.adapters.mapping.extra import TEXT, concat, dumps, is_json, is_text
from choline_data.adapters.mapping.forms.fields import Fields, labels_of, turns_of
from choline_data.adapters.mapping.roles import are_nested_turns, role_of
from choline_data.adapters.mapping.turns import Talk

# Texts that may contain several turns: transcripts, and JSON in a string.
_SPECIAL = r"^\s*(Human|Assistant|System):|^[\[{]"


def messages(fields: Fields) -> None:
    """Fills one conversation for each row, of any shape that `turns.read` knows. A `system` column becomes the first
    turn.

    If there are several columns, the turns of each follow after those of the column before it.
    """
    name, *following = fields.names("messages")
    if following:
        _continued(fields, [name, *following])
        return
    column, kind = fields.column(name)
    fast = None if is_json(kind) or fields.has("system") else talk.from_structs(column)
    if fast is None:
        values = _conversations(fields, name)
        if any(map(are_nested_turns, values)):
            fields.made.kept.add(name)  # the turns do not show which of them were in one list
        talks = [talk.read(value) for value in values]
        if fields.has("system"):
            _with_system(talks, fields.text(fields.names("system")[0]).to_pylist())
        _take(fields, name, talks)
        return
    turns, rest = fast
    fields.made.columns["turns"] = turns
    empty = pc.equal(pc.list_value_length(turns), 0)
    fields.made.reject(empty, f"{name} has no turns")
    if rest is not None and name not in fields.made.kept:
        fields.made.rest[name] = rest


def _continued(fields: Fields, names: list[str]) -> None:
    fields.made.kept.update(names)
    talks = []
    for values in zip(*(_conversations(fields, name) for name in names), strict=True):
        parts = [talk.read(value) for value in values]
        fault = next((f"{name} {part.fault}" for name, part in zip(names, parts, strict=True) if part.fault), "")
        talks.append(Talk([turn for part in parts for turn in part.turns], fault=fault))
    if fields.has("system"):
        _with_system(talks, fields.text(fields.names("system")[0]).to_pylist())
    fields.made.columns["turns"] = talk.as_array(talks)
    for fault in sorted({t.fault for t in talks if t.fault}):
        fields.made.reject(pa.array([t.fault == fault for t in talks]), fault)


def _conversations(fields: Fields, name: str) -> list[Any]:
    """Returns the column's values. Strings that hold JSON are parsed, because some exports write lists and objects as strings."""
    from choline_data.adapters.mapping.forms.fields import parsed

    column, kind = fields.column(name)
    if is_json(kind):
        return parsed(column)
    if is_text(column.type):
        fields.made.kept.add(name)
        return parsed(column)
    values: list[Any] = column.to_pylist()
    return values


def _take(fields: Fields, name: str, talks: list[Talk]) -> None:
    fields.made.columns["turns"] = talk.as_array(talks)
    faults = {t.fault for t in talks if t.fault}
    for fault in sorted(faults):
        fields.made.reject(pa.array([t.fault == fault for t in talks]), f"{name} {fault}")
    if name not in fields.made.kept:
        fields.made.rest[name] = pa.array([t.left for t in talks], TEXT)


def _with_system(talks: list[Talk], texts: list[str | None]) -> None:
    for one, text in zip(talks, texts, strict=True):
        if text and not one.fault:
            one.turns.insert(0, ("system", text))
            if any(one.rest):
                one.rest.insert(0, {})


def prompt_completion(fields: Fields) -> None:
    """Fills turns with a prompt and its reply. `input` (Alpaca) goes below the prompt, `history` (pairs) before it."""
    output = fields.made
    if fields.has("history"):
        _with_history(fields)
        return
    prompt = _prompt(fields)
    parts = []
    if fields.has("system"):
        parts.append(("system", fields.text(fields.names("system")[0]), True))
    parts.append(("user", prompt, False))
    if fields.has("completion"):
        parts.append(("assistant", _reply(fields), False))
    output.columns["turns"] = turns_of(parts)


def _prompt(fields: Fields) -> pa.Array:
    names = fields.names("prompt")
    prompt = fields.require(fields.joined("prompt", "\n\n"), " and ".join(names))
    if fields.has("input"):
        extra = fields.text(fields.names("input")[0])
        fields.made.kept.update([*names, *fields.names("input")])
        filled = pc.fill_null(pc.greater(pc.binary_length(extra), 0), False)
        bare = pc.equal(pc.binary_length(prompt), 0)
        both = pc.if_else(bare, extra, concat(prompt, "\n\n", pc.fill_null(extra, "")))
        return pc.if_else(filled, both, prompt)
    return prompt


def _reply(fields: Fields) -> pa.Array:
    name = fields.names("completion")[0]
    column, kind = fields.column(name)
    if is_json(kind) or pa.types.is_nested(column.type):
        # A list of replies (flan, natural-reasoning): the first one becomes the turn, and all stay in `extra`.
        fields.made.kept.add(name)
        return fields.require(pa.array([_first(v) for v in fields.values(name)], TEXT), name)
    return fields.require(fields.joined("completion", "\n\n"), " and ".join(fields.names("completion")))


def _first(value: Any) -> str | None:
    if isinstance(value, list):
        return _first(value[0]) if value else None
    if isinstance(value, dict):
        for key in ("response", "text", "content", "value", "output", "answer"):
            if isinstance(value.get(key), str):
                return str(value[key])
        return None
    return value if value is None or isinstance(value, str) else str(value)


def _with_history(fields: Fields) -> None:
    history, name = fields.values(fields.names("history")[0]), fields.names("prompt")[0]
    fields.made.kept.add(fields.names("history")[0])
    prompts, replies = _prompt(fields).to_pylist(), _reply(fields).to_pylist()
    systems = fields.text(fields.names("system")[0]).to_pylist() if fields.has("system") else [None] * fields.rows
    talks = []
    for before, prompt, reply, system in zip(history, prompts, replies, systems, strict=True):
        one = talk.read(before) if before else Talk()
        one.turns += [("user", prompt), ("assistant", reply)]
        one.rest = []
        if system:
            one.turns.insert(0, ("system", system))
        talks.append(one)
    fields.made.columns["turns"] = talk.as_array(talks)
    fields.made.reject(pa.array([bool(t.fault) for t in talks]), f"the history of {name} can't be read")


def instances(fields: Fields) -> None:
    """Fills turns from an instruction and a list of {input, output}.

    Each pair gives a user turn and an assistant turn. The first user turn begins with the instruction.
    """
    name = fields.names("instances")[0]
    fields.made.kept.add(name)
    prompt = fields.require(fields.joined("prompt", "\n\n"), " and ".join(fields.names("prompt")))
    talks = []
    for ask, examples in zip(prompt.to_pylist(), fields.values(name), strict=True):
        pairs = [g for g in examples or [] if isinstance(g, dict) and isinstance(g.get("output"), str)]
        one = Talk() if pairs else Talk(fault="has no {input, output}")
        for i, pair in enumerate(pairs):
            texts = [t for t in (ask if i == 0 else None, pair.get("input")) if t]
            one.turns += [("user", "\n\n".join(texts) or ask), ("assistant", pair["output"])]
        talks.append(one)
    fields.made.columns["turns"] = talk.as_array(talks)
    fields.made.reject(pa.array([bool(t.fault) for t in talks]), f"{name} has no {{input, output}}")


def summarisation(fields: Fields) -> None:
    """Fills turns: the document is the user's turn, the summary is the reply."""
    document = fields.require(fields.joined("document", "\n\n"), " and ".join(fields.names("document")))
    summary = fields.require(fields.joined("summary", "\n"), " and ".join(fields.names("summary")))
    fields.made.columns["turns"] = turns_of([("user", document, False), ("assistant", summary, False)])


def kto(fields: Fields) -> None:
    """Fills a conversation, or a prompt with its reply, and a label that says whether the reply is desirable."""
    if fields.has("messages"):
        messages(fields)
    else:
        prompt_completion(fields)
    fields.made.columns["label"] = labels_of(fields, fields.batch)


def preference(fields: Fields) -> None:
    """Fills the prompt's turns, then one `chosen` and one `rejected` turn.

    If there is a `choice` column, it says which of the two replies was preferred. Replies may be texts, turns, or whole
    conversations, whose common beginning is the prompt. A reply of several turns becomes one text, and the columns stay in
    `extra`.
    """
    if _plain(fields):
        return
    output = fields.made
    chosen, rejected = fields.names("chosen")[0], fields.names("rejected")[0]
    pairs = list(zip(_conversations(fields, chosen), _conversations(fields, rejected), strict=True))
    if fields.has("choice"):
        output.kept.update((chosen, rejected))
        pairs = [_ordered(pair, choice) for pair, choice in zip(pairs, _choices(fields), strict=True)]
    prompts = _conversations(fields, fields.names("prompt")[0]) if fields.has("prompt") else [None] * fields.rows
    systems = fields.text(fields.names("system")[0]).to_pylist() if fields.has("system") else [None] * fields.rows
    output.kept.update((chosen, rejected, *fields.names("prompt")))
    talks = [_preferred(p, c, r, s) for p, (c, r), s in zip(prompts, pairs, systems, strict=True)]
    output.columns["turns"] = talk.as_array(talks)
    for fault in sorted({t.fault for t in talks if t.fault}):
        output.reject(pa.array([t.fault == fault for t in talks]), fault)
    if not fields.has("choice"):
        for name in (chosen, rejected, *fields.names("prompt")):
            _leave_inexact(fields, name, talks)


def _plain(fields: Fields) -> bool:
    """Handles the common case, in which all columns are texts, by columns. Returns False for any other case."""
    names = [n for role in ("prompt", "chosen", "rejected") for n in fields.names(role)]
    kinds = [fields.column(n) for n in names]
    if not fields.has("prompt") or fields.has("choice") or len(names) != 3:
        return False
    if not all(is_text(c.type) and not is_json(k) for c, k in kinds):
        return False
    output = fields.made
    prompt, chosen, rejected = (fields.require(fields.text(n), n, not_empty=n == names[0]) for n in names)
    if any(pc.any(pc.match_substring_regex(t, _SPECIAL)).as_py() for t in (prompt, chosen, rejected)):
        output.bad.clear()
        return False
    parts = [("user", prompt, False), ("chosen", chosen, False), ("rejected", rejected, False)]
    if fields.has("system"):
        parts.insert(0, ("system", fields.text(fields.names("system")[0]), True))
    fields.made.columns["turns"] = turns_of(parts)
    return True


def _choices(fields: Fields) -> list[Any]:
    name = fields.names("choice")[0]
    fields.made.kept.add(name)
    values = fields.values(name)
    # SHP: `labels` is 1 if A is preferred. better_response_id is 0 or 1. HelpSteer: preference is below 0 if response 1 is.
    if "preference" in name.lower():
        return [None if v is None or v == 0 else int(v > 0) for v in values]
    if name.lower() in ("labels", "label"):
        return [None if v is None else int(v == 0) for v in values]
    return [None if v is None else int(v) for v in values]


def _ordered(pair: tuple[Any, Any], choice: Any) -> tuple[Any, Any]:
    """Returns the two replies, the preferred one first. Without a preference they keep the source's order."""
    return pair if choice in (0, None) else (pair[1], pair[0])


def _preferred(prompt: Any, chosen: Any, rejected: Any, system: str | None) -> Talk:
    good, bad = _reply_turns(chosen), _reply_turns(rejected)
    for name, one in (("chosen", good), ("rejected", bad)):
        if one.fault:
            return Talk(fault=f"{name} {one.fault}")
    before = talk.read(prompt).turns if prompt else []
    same = 0
    while same < min(len(good.turns), len(bad.turns)) - 1 and good.turns[same] == bad.turns[same]:
        same += 1
    if same and len(good.turns) > 1:
        before = good.turns[:same]
    out = Talk([*before, ("chosen", _words(good.turns[same:])), ("rejected", _words(bad.turns[same:]))])
    if system and not (out.turns and out.turns[0][0] == "system"):
        out.turns.insert(0, ("system", system))
    if not before:
        return Talk(fault="has no prompt before chosen and rejected") if not out.turns else out
    return out


def _reply_turns(value: Any) -> Talk:
    if isinstance(value, str) and not value.lstrip().startswith(("Human:", "Assistant:")):
        return Talk([("assistant", value)])
    return talk.read(value)


def _words(turns: list[tuple[str, str | None]]) -> str:
    if len(turns) == 1:
        return turns[0][1] or ""
    return "\n\n".join(f"{role}: {content or ''}" for role, content in turns)


def _leave_inexact(fields: Fields, name: str, talks: list[Talk]) -> None:
    """Keeps a text of the column in `extra` if no turn has exactly this text as its content. Decides this for each row."""
    column, kind = fields.column(name)
    if is_text(column.type) and not is_json(kind):
        left = [
            None if any(content == value for _, content in one.turns) else dumps(value)
            for one, value in zip(talks, column.to_pylist(), strict=True)
        ]
        fields.made.rest[name] = pa.array(left, TEXT)
        fields.made.kept.discard(name)


def tree(fields: Fields) -> None:
    """Fills turns from a tree of messages: the path from the root that takes the best-ranked reply at each message.

    The whole tree stays in `extra`.
    """
    output = fields.made
    if fields.has("tree"):
        roots = fields.values(fields.names("tree")[0])
    else:
        used = [(r, n) for r in ("text", "speaker", "replies") for n in fields.names(r)[:1]]
        columns = {("role" if r == "speaker" else r): fields.values(n) for r, n in used}
        roots = [{key: values[i] for key, values in columns.items()} for i in range(fields.rows)]
    output.kept.update(name for role in ("tree", "text", "speaker", "replies") for name in fields.names(role))
    talks = [_path(root) for root in roots]
    output.columns["turns"] = talk.as_array(talks)
    output.reject(pa.array([bool(t.fault) for t in talks]), "the tree has no message with a text")


def _path(root: Any) -> Talk:
    out = Talk()
    node = root
    while isinstance(node, dict) and isinstance(node.get("text"), str):
        # The speakers in a tree alternate, so the depth determines an unknown role.
        out.turns.append((role_of(str(node.get("role"))) or ("user", "assistant")[len(out.turns) % 2], node["text"]))
        replies = [r for r in node.get("replies") or [] if isinstance(r, dict)]
        node = min(replies, key=_rank, default=None)
    return out if out.turns else Talk(fault="no message")


def _rank(reply: dict[str, Any]) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, (int, float)) else float(np.inf)
