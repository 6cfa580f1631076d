"""Forms for questions: open questions, questions about a context, and multiple choice."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa

from choline_data.adapters.mapping import turns as talk
from choline_data.adapters.mapping.extra import TEXT
from choline_data.adapters.mapping.forms.fields import Fields, turns_of
from choline_data.adapters.mapping.turns import Talk
from choline_data.schema import LABEL


def qa(fields: Fields) -> None:
    """Fills turns: the question, below its context if it has one, and its answer.

    If there are several answers, the turn has the first, and all stay in `extra`.
    """
    question = fields.require(fields.joined("question", "\n\n"), " and ".join(fields.names("question")))
    parts = [("user", question, False)]
    if fields.has("context"):
        context = fields.names("context")[0]
        both = Fields([("t", context), ("t", fields.names("question")[0])], fields.batch, "")
        parts = [("user", both.joined("t", "\n\n"), False)]
        fields.made.kept.update([context, *fields.names("question")])
    if fields.has("answer"):
        name = fields.names("answer")[0]
        column, _ = fields.column(name)
        if pa.types.is_nested(column.type) or not pa.types.is_string(column.type):
            fields.made.kept.add(name)
        answers = pa.array([answer_text(v) for v in fields.values(name)], TEXT)
        # The answer is optional: test sets have no answers, and an unanswerable question (SQuAD 2) has an empty list.
        parts.append(("assistant", answers, True))
    fields.made.columns["turns"] = turns_of(parts)


def answer_text(value: Any) -> str | None:
    """Returns the text of an answer, which may be a text, number, list, or struct of texts, aliases or spans. Of a
    list, returns the first text.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return answer_text(value[0]) if value else None
    if isinstance(value, dict):
        for key in ("text", "value", "answer", "spans", "aliases", "answers"):
            if value.get(key):
                return answer_text(value[key])
        return None
    return str(value)


def choices(fields: Fields) -> None:
    """Fills turns with the question, its lettered choices and the right choice.

    The label's `name` is the text of the right choice; its `value` is the answer as the source writes it.
    """
    output = fields.made
    answer_columns = fields.names("answer") or fields.names("answer_from_1")
    used = [n for role in ("question", "choices", "answer", "answer_from_1", "context") for n in fields.names(role)]
    output.kept.update(used)
    questions = fields.require(fields.joined("question", "\n"), " and ".join(fields.names("question"))).to_pylist()
    contexts = fields.text(fields.names("context")[0]).to_pylist() if fields.has("context") else [None] * fields.rows
    columns = [fields.values(name) for name in fields.names("choices")]
    answers = fields.values(answer_columns[0]) if answer_columns else [None] * fields.rows
    # In some datasets (winogrande) 1 is the first choice. They use a separate role, because '1' alone is ambiguous.
    first = 1 if fields.has("answer_from_1") else 0
    talks: list[Talk] = []
    labels: list[list[dict[str, str]] | None] = []
    for i, (question, context, answer) in enumerate(zip(questions, contexts, answers, strict=True)):
        options = _options([column[i] for column in columns])
        if question is None or not options:
            talks.append(Talk(fault="has no choices"))
            labels.append(None)
            continue
        lines = [f"{letter}. {text}" for letter, text in options]
        ask = "\n".join([*([context] if context else []), question, *lines])
        right = _right(answer, options, first)
        one = Talk([("user", ask)])
        if right is not None:
            one.turns.append(("assistant", lines[right]))
        talks.append(one)
        labels.append(None if answer is None else [_label(answer, options, right)])
    output.columns["turns"] = talk.as_array(talks)
    output.columns["label"] = pa.array(labels, pa.list_(LABEL))
    output.reject(pa.array([bool(t.fault) for t in talks]), f"{', '.join(fields.names('choices'))} holds no choices")


def _options(cells: list[Any]) -> list[tuple[str, str]]:
    """Returns (letter, text) of each choice. Reads a list, a struct {text, label}, a mapping from letters, or several columns."""
    if len(cells) == 1:
        value = cells[0]
        if isinstance(value, str):
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError:
                return []
        if isinstance(value, dict) and isinstance(value.get("text"), list):
            names = value.get("label") or []
            return [(str(names[i]) if i < len(names) else _letter(i), str(t)) for i, t in enumerate(value["text"])]
        if isinstance(value, dict):
            return [(str(k), str(v)) for k, v in value.items() if v is not None]
        if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            return [(str(v.get("label") or _letter(i)), str(v.get("text"))) for i, v in enumerate(value)]
        cells = value if isinstance(value, list) else []
    return [(_letter(i), str(cell)) for i, cell in enumerate(cells) if cell is not None]


def _letter(index: int) -> str:
    return chr(65 + index) if index < 26 else str(index + 1)


def _right(answer: Any, options: list[tuple[str, str]], first: int) -> int | None:
    """Returns the index of the right choice. `answer` is a number, a letter, or the text of the choice. None if nothing matches."""
    if answer is None or answer == "":
        return None
    if isinstance(answer, str):
        named = [i for i, (letter, _) in enumerate(options) if letter == answer.strip("().") or letter == answer]
        matching = [i for i, (_, text) in enumerate(options) if text == answer]
        position = named or matching
        if position:
            return position[0]
        answer = int(answer) if answer.isdigit() else -1
    if isinstance(answer, (bool, float)) or not isinstance(answer, int):
        return None
    index = answer - first
    return index if 0 <= index < len(options) else None


def _label(answer: Any, options: list[tuple[str, str]], right: int | None) -> dict[str, str]:
    value = answer if isinstance(answer, str) else orjson.dumps(answer).decode()
    return {"name": options[right][1] if right is not None else value, "value": value}
