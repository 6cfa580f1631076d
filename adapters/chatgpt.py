"""Reads ChatGPT account exports (`conversations.json`). Each conversation, a tree of messages, becomes one row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading.documents import chunks_of, document, json_files, one_shard_each
from choline_data.adapters.reading.names import parts
from choline_data.adapters.reading.records import dumps
from choline_data.errors import SourceFormatError

_BESIDE = re.compile(
    r"^(chat\.html|(user|user_settings|message_feedback|model_comparisons|shared_conversations|export_manifest|group_chats"
    r"|shopping|sora|tasks)\.json)$"
)


@dataclass(frozen=True)
class ChatGPT:
    """Reads the path to the current node as `messages`. Other branches are kept as JSON in `branches`."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each export."""
        return one_shard_each(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the conversations from `start` on."""
        conversations = document(shard.path, shard.name)
        if not isinstance(conversations, list):
            raise SourceFormatError(f"{shard.name}: not a list of conversations.", remedy="Export the account again.")
        return chunks_of((conversation(c) for c in conversations), shard.origin, start=start)


ADAPTER = ChatGPT


def detect(source: Source) -> list[FormatClaim]:
    """Returns one claim for all files that hold conversations with a `mapping`."""
    files = tuple(f for f, value in json_files(source, r'"mapping"\s*:') if _is_export(value))
    claimed = {f.name for f in files}
    described = tuple(
        (f.name, "it belongs to an export of ChatGPT, and holds no conversations")
        for f in source.files
        if f.name not in claimed and _BESIDE.match(parts(f.name)[-1])
    )
    why = "conversations with mapping and current_node"
    return [FormatClaim(ChatGPT(), files, 1.0, why, kind="chat", described=described)] if files else []


def conversation(found: Any) -> Any:
    """Returns the row of a conversation; None for a value that is not a conversation. Such a row is rejected."""
    if not isinstance(found, dict) or not isinstance(found.get("mapping"), dict):
        return None
    nodes: dict[str, Any] = {k: v for k, v in found["mapping"].items() if isinstance(v, dict)}
    path = _path(nodes, found.get("current_node"))
    messages = [m for key in path if (m := _message(nodes[key].get("message"))) is not None]
    aside = {key: node for key, node in nodes.items() if key not in set(path) and node.get("message")}
    rest = {k: v for k, v in found.items() if k not in ("mapping", "current_node")}
    return {"messages": messages, **rest, "branches": dumps(aside).decode() if aside else None}


def _is_export(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(c, dict) and isinstance(c.get("mapping"), dict) for c in value[:8])
    )


def _path(nodes: dict[str, Any], current: Any) -> list[str]:
    """Returns the path from the root to the current node. If none is stated, the path follows the last child of every node."""
    if not isinstance(current, str) or current not in nodes:
        current = next((key for key, node in nodes.items() if node.get("parent") not in nodes), None)
        seen: set[str] = set()
        while current is not None and current not in seen:
            seen.add(current)
            below = [c for c in nodes[current].get("children") or [] if c in nodes]
            if not below:
                break
            current = below[-1]
    path: list[str] = []
    met: set[str] = set()
    while isinstance(current, str) and current in nodes and current not in met:
        met.add(current)
        path.append(current)
        current = nodes[current].get("parent")
    return path[::-1]


def _message(message: Any) -> dict[str, str] | None:
    if not isinstance(message, dict):
        return None
    author, content = message.get("author") or {}, message.get("content") or {}
    text = _text(content) if isinstance(content, dict) else str(content)
    role = author.get("role") if isinstance(author, dict) else None
    return {"role": str(role or "user"), "content": text} if text else None


def _text(content: dict[str, Any]) -> str:
    parts = content.get("parts")
    if isinstance(parts, list):
        return "\n".join(p if isinstance(p, str) else dumps(p).decode() for p in parts if p)
    for key in ("text", "result", "content"):
        if isinstance(content.get(key), str):
            return str(content[key])
    return ""
