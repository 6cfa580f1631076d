"""Who speaks: the names that chats use for a role, and the one that the schema has for it."""

from __future__ import annotations

from typing import Final

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

# The name that a role has where its key is this one. Any other name is kept in `extra`, so that the source's own words
# can be told from the stored ones.
USUAL: Final[dict[str, dict[str, str]]] = {
    "role": {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"},
    "from": {"system": "system", "human": "user", "gpt": "assistant", "tool": "tool"},
}


def role_of(name: str) -> str | None:
    """The schema's role for a source's name of it; None for a name that is not known, such as a person's."""
    return ROLE_OF.get(name.strip().lower().replace("-", "_").replace(" ", "_"))


def roles_by_turn(names: list[str | None]) -> list[str]:
    """A role for every turn: the known ones by name, others (people) user and assistant in order of appearance."""
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
