"""The names that chat datasets use for a speaker's role, and the schema's role for each name."""

from __future__ import annotations

from typing import Any, Final

_SPOKEN: Final = {
    "system": ("system", "developer", "context", "sys"),
    "user": ("user", "human", "prompter", "question", "instruction", "client", "customer", "usr", "input", "person"),
    "assistant": ("assistant", "gpt", "bot", "model", "chatbot", "answer", "output", "chatgpt", "ai", "agent",
                  "response", "bing", "bard", "function_call", "tool_call", "assistant_response"),
    "tool": ("tool", "function", "observation", "ipython", "tool_response", "function_response", "tool_result",
             "tool_output", "environment"),
}  # fmt: skip

ROLE_OF: Final = {name: role for role, names in _SPOKEN.items() for name in names}

ROLE_KEYS: Final = ("role", "from", "speaker", "sender", "author", "user_type")
CONTENT_KEYS: Final = ("content", "value", "text", "utterance", "message")

# The usual role names for each key. They are not kept in `extra`, because the stored role implies them. Any other name is
# kept in `extra`.
USUAL: Final[dict[str, dict[str, str]]] = {
    "role": {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"},
    "from": {"system": "system", "human": "user", "gpt": "assistant", "tool": "tool"},
}


def role_of(name: str) -> str | None:
    """Returns the schema's role for a role name in a source. None for an unknown name, such as a person's."""
    return ROLE_OF.get(name.strip().lower().replace("-", "_").replace(" ", "_"))


def roles_by_turn(names: list[str | None]) -> list[str]:
    """Returns a role for every turn. Unknown names (people) become user and assistant alternately, in order of first appearance."""
    unknown: list[str | None] = []
    roles = []
    for name in names:
        known = role_of(name) if name is not None else None
        if known is None:
            if name not in unknown:
                unknown.append(name)
            known = ("user", "assistant")[unknown.index(name) % 2]
        roles.append(known)
    return roles


def flat_turns(value: list[Any]) -> list[Any]:
    """Returns the turns of a conversation whose turns are in lists, such as `[[{"role": …}], [{"role": …}]]`, as one list.

    A list of several conversations stays as it is: a later one begins with a system turn, or as the first one does.
    """
    if not are_nested_turns(value):
        return value
    first = value[0][0]
    again = (role_of(str(_spoken(turns[0]))) == "system" or turns[0] == first for turns in value[1:])
    return value if any(again) else [turn for turns in value for turn in turns]


def are_nested_turns(value: Any) -> bool:
    """Whether the value is a list of lists of turns with a role."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turns, list) and turns for turns in value)
        and all(isinstance(turn, dict) and _spoken(turn) is not None for turns in value for turn in turns)
    )


def _spoken(turn: dict[str, Any]) -> Any:
    return next((turn[key] for key in ROLE_KEYS if turn.get(key) is not None), None)
