"""Samples in the columns that fine-tuning trainers read: `format="messages"` and others.

================= =================================== ============================================================
format            columns                             rows that have them
================= =================================== ============================================================
messages          messages, tools                     chats, and questions with an answer
prompt-completion prompt, completion                  the same, if the assistant has the last turn
preference        prompt, chosen, rejected            preferences: a prompt, then one chosen and one rejected reply
kto               prompt, completion, label           preferences with one reply and a label, true or false
text              text                                rows with a text
================= =================================== ============================================================

`messages`, `prompt`, `completion`, `chosen` and `rejected` are lists of {"role", "content"}. `tools` is the JSON text of the
functions that the source declares for the row, or None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from choline_data.errors import DataError

Sample = Mapping[str, Any]
Turns = list[dict[str, str]]

_ROLES: Final = ("system", "user", "assistant", "tool")
_DECLARED: Final = ("tools", "functions")
_TRUE: Final = ("true", "1", "1.0")
_FALSE: Final = ("false", "0", "0.0")
# A reply of several turns is stored as one text, each turn after the name of its role.
_JOINED: Final = re.compile(r"\A(?:system|user|assistant|tool): .*\n\n(?:system|user|assistant|tool): ", re.DOTALL)


class _NoShapeError(ValueError):
    """Says why a row cannot have the columns of a format."""


def _messages(sample: Sample) -> dict[str, Any]:
    return {"messages": _conversation(sample), "tools": _tools(sample)}


def _prompt_completion(sample: Sample) -> dict[str, Any]:
    prompt, completion = _last_reply(_conversation(sample), sample)
    return {"prompt": prompt, "completion": completion}


def _preference(sample: Sample) -> dict[str, Any]:
    turns = _turns(sample)
    if [turn["role"] for turn in turns[-2:]] != ["chosen", "rejected"]:
        raise _NoShapeError("has no chosen and rejected reply")
    if len(turns) == 2:
        raise _NoShapeError("has no prompt before its replies")
    _without_tools(sample)
    _check_roles(turns[:-2])
    for turn in turns[-2:]:
        if _JOINED.search(turn["content"]):
            raise _NoShapeError(f"has a {turn['role']} reply of several turns")
    chosen, rejected = ([{"role": "assistant", "content": turn["content"]}] for turn in turns[-2:])
    return {"prompt": turns[:-2], "chosen": chosen, "rejected": rejected}


def _kto(sample: Sample) -> dict[str, Any]:
    turns, labels = _turns(sample), sample.get("label") or []
    _check_roles(turns)
    if len(labels) != 1:
        raise _NoShapeError("has no single label" if labels else "has no label")
    stated = labels[0].get("value")
    stated = str(labels[0].get("name") if stated is None else stated).strip().lower()
    if stated not in _TRUE + _FALSE:
        raise _NoShapeError(f"has the label {stated[:40]!r}, which is neither true nor false")
    prompt, completion = _last_reply(turns, sample)
    return {"prompt": prompt, "completion": completion, "label": stated in _TRUE}


def _text(sample: Sample) -> dict[str, Any]:
    if sample.get("text") is None:
        raise _NoShapeError("has no text")
    return {"text": sample["text"]}


def _conversation(sample: Sample) -> Turns:
    """Returns the turns of a chat. A preference has turns that must not be learned, so it is refused."""
    turns = _turns(sample)
    if sample.get("kind") == "preference":
        raise _NoShapeError('is a preference (use format="preference" or "kto")')
    _check_roles(turns)
    return turns


def _turns(sample: Sample) -> Turns:
    turns = sample.get("turns")
    if not turns:
        raise _NoShapeError("has no turns")
    if sample.get("media"):
        raise _NoShapeError("has media, for which the format has no column")
    return [{"role": turn["role"] or "user", "content": turn["content"] or ""} for turn in turns]


def _check_roles(turns: Turns) -> None:
    for turn in turns:
        if turn["role"] not in _ROLES:
            raise _NoShapeError(f"has a turn with the role {turn['role'][:40]!r}")


def _last_reply(turns: Turns, sample: Sample) -> tuple[Turns, Turns]:
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise _NoShapeError("does not end with a reply of the assistant to a prompt")
    _without_tools(sample)
    return turns[:-1], turns[-1:]


def _tools(sample: Sample) -> str | None:
    """Returns the functions that the source declares for this row, as JSON text."""
    extra = sample.get("extra")
    rest = orjson.loads(extra) if extra else {}
    for name in _DECLARED:
        declared = rest.get(name)
        if declared and isinstance(declared, str):
            try:
                declared = orjson.loads(declared)
            except orjson.JSONDecodeError:
                raise _NoShapeError(f"has {name} that are not JSON") from None
        if declared:
            return orjson.dumps(declared).decode()
    return None


def _without_tools(sample: Sample) -> None:
    if _tools(sample) is not None:
        raise _NoShapeError('declares tools, for which the format has no column (format="messages" has one)')


_CONVERSATIONS: Final = ("kind", "turns", "media", "extra")
# the function, the fields of a sample that it reads, and the columns that it makes
_SHAPES: Final[dict[str, tuple[Callable[[Sample], dict[str, Any]], tuple[str, ...], tuple[str, ...]]]] = {
    "messages": (_messages, _CONVERSATIONS, ("messages", "tools")),
    "prompt-completion": (_prompt_completion, _CONVERSATIONS, ("prompt", "completion")),
    "preference": (_preference, _CONVERSATIONS, ("prompt", "chosen", "rejected")),
    "kto": (_kto, (*_CONVERSATIONS, "label"), ("prompt", "completion", "label")),
    "text": (_text, ("text",), ("text",)),
}
SHAPES: Final = tuple(_SHAPES)


@dataclass(frozen=True)
class TrainingShape:
    """The columns of one format. Picklable."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return _SHAPES[self.name][2]

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields of a sample from which the columns are made."""
        return _SHAPES[self.name][1]

    def sample(self, sample: Sample) -> dict[str, Any]:
        """Returns the columns of a sample. Raises DataError with its dataset and id if it cannot have them."""
        try:
            return _SHAPES[self.name][0](sample)
        except _NoShapeError as error:
            raise DataError(
                f"Sample {sample['id'].hex()} of {sample['dataset']} {error}, so it has no form as {self.name!r}.",
                remedy='Choose another format or filter the rows with where; on_error="skip" leaves such rows out.',
                id=sample["id"].hex(),
                dataset=sample["dataset"],
            ) from error
