"""Reads exports of chats: Claude (one conversation for each row), Slack, Discord and Telegram (one message for each row).

A message has the columns text, speaker, time and channel; its other values are kept. Files of an export that hold no messages,
such as the list of users, describe the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.documents import document
from choline_data.adapters.reading.names import parts
from choline_data.adapters.text_records.line_records import rows_in_chunks, shards_of
from choline_data.errors import SourceFormatError

LOOKED_BYTES = 64 << 10
Rows = Iterator[dict[str, Any] | None]


@dataclass(frozen=True)
class ChatExport:
    """Reads the files of an export of one `service`."""

    service: str = "slack"

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from row `start` on. A message that is not an object is rejected."""
        return rows_in_chunks(_SERVICES[self.service].rows(document(shard.path, shard.name), shard.name), shard, start)


ADAPTER = ChatExport


def _claude(found: Any, name: str) -> Rows:
    for talk in _listed(found, name):
        if not isinstance(talk, dict) or not isinstance(talk.get("chat_messages"), list):
            yield None
            continue
        messages = [_turn(m) for m in talk["chat_messages"] if isinstance(m, dict)]
        yield {"messages": messages, **{k: v for k, v in talk.items() if k != "chat_messages"}}


def _turn(message: dict[str, Any]) -> dict[str, Any]:
    """Returns a turn of Claude. Its text is in `text`, or else in the parts of `content`."""
    content = message.get("content")
    parts_ = [p.get("text") for p in content if isinstance(p, dict)] if isinstance(content, list) else []
    text = message.get("text") or "\n".join(p for p in parts_ if isinstance(p, str))
    inexact = parts_ != [text]
    rest = {
        k: v for k, v in message.items() if k not in ("text", "sender", "content") or (k == "content" and inexact and v)
    }
    rest = {("parts" if k == "content" else k): v for k, v in rest.items() if v not in (None, [], "")}
    return {"role": message.get("sender"), "content": text, **rest}


def _slack(found: Any, name: str) -> Rows:
    channel = parts(name)[-2] if len(parts(name)) > 1 else None
    for message in _listed(found, name):
        if not isinstance(message, dict):
            yield None
            continue
        profile = message.get("user_profile")
        named = profile.get("real_name") if isinstance(profile, dict) else None
        yield _message(
            message,
            message.get("text"),
            named or message.get("username") or message.get("user"),
            _utc(message.get("ts")),
            channel,
        )


def _discord(found: Any, name: str) -> Rows:
    channel = found.get("channel")
    called = channel.get("name") if isinstance(channel, dict) else None
    for message in _listed(found.get("messages"), name):
        if not isinstance(message, dict):
            yield None
            continue
        author = message.get("author")
        speaker = author.get("name") if isinstance(author, dict) else None
        yield _message(message, message.get("content"), speaker, message.get("timestamp"), called, "content")


def _telegram(found: Any, name: str) -> Rows:
    chats = found.get("chats")
    several = _listed(chats.get("list"), name) if isinstance(chats, dict) else [found]
    for chat in several:
        for message in _listed(chat.get("messages") if isinstance(chat, dict) else None, name):
            if not isinstance(message, dict):
                yield None
                continue
            text = message.get("text")
            if isinstance(text, list):  # plain texts, and objects for links and the like
                pieces = [p.get("text", "") if isinstance(p, dict) else p for p in text]
                text = "".join(p for p in pieces if isinstance(p, str))
            yield _message(
                message,
                text,
                message.get("from") or message.get("actor"),
                _utc(message.get("date_unixtime")),
                chat.get("name"),
                "from",
            )


def _message(
    message: dict[str, Any], text: Any, speaker: Any, time: Any, channel: Any, other: str = ""
) -> dict[str, Any]:
    rest = {k: v for k, v in message.items() if k not in ("text", "timestamp", other)}
    if "date" in rest:  # Telegram writes it in the time zone of the person who made the export
        rest["local_date"] = rest.pop("date")
    about = {"text": text or "", "speaker": speaker, "time": time, "channel": channel}
    return about | {(f"message.{k}" if k in about else k): v for k, v in rest.items()}


def _utc(seconds: Any) -> str | None:
    """Returns a time in ISO 8601; None if the value is not a number of seconds."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _listed(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise SourceFormatError(f"{name}: its messages are not a list.", remedy="Export the chat again, as JSON.")
    return value


@dataclass(frozen=True)
class _Service:
    """The properties of a chat service: how the first bytes of its files look, and how they are read."""

    begins: re.Pattern[bytes]
    rows: Callable[[Any, str], Rows]
    kind: str
    path: re.Pattern[str] = re.compile(r"\.json$", re.IGNORECASE)
    described: re.Pattern[str] = re.compile(r"(?!)")


_SERVICES: Mapping[str, _Service] = {
    "claude": _Service(
        re.compile(rb'\s*\[\s*\{(?=.*"chat_messages"\s*:)\s*"uuid"\s*:', re.DOTALL),
        _claude,
        "chat",
        described=re.compile(r"^(users|projects|memories)\.json$"),
    ),
    "slack": _Service(
        re.compile(rb'\s*\[(?=.*"ts"\s*:\s*"\d+\.\d+")(?=.*"type"\s*:\s*"message")', re.DOTALL),
        _slack,
        "text",
        re.compile(r"(?:^|/)\d{4}-\d\d-\d\d\.json$"),
        re.compile(r"^(users|channels|groups|dms|mpims|integration_logs|canvases|org_users|file_conversations|huddle_transcripts)\.json$"),
    ),
    "discord": _Service(
        re.compile(rb'\s*\{\s*"guild"\s*:(?=.*"channel"\s*:)(?=.*"messages"\s*:)', re.DOTALL), _discord, "text"
    ),
    "telegram": _Service(
        re.compile(rb'\s*\{(?=.*"messages"\s*:)(?=.*"(?:date_unixtime|text_entities|from_id)"\s*:)', re.DOTALL), _telegram, "text"
    ),
}  # fmt: skip


def detect(source: Source) -> list[FormatClaim]:
    """Claims the files with messages. The other files of the same export describe them."""
    found: dict[str, list[SourceFile]] = {}
    for file in source.files:
        if not file.name.lower().endswith(".json"):
            continue
        head = io.head(file.path, LOOKED_BYTES).removeprefix(b"\xef\xbb\xbf")
        names = (n for n, s in _SERVICES.items() if s.path.search(file.name) and s.begins.match(head))
        service = next(names, "")
        if service:
            found.setdefault(service, []).append(file)
    return [_claim(source, service, files) for service, files in found.items()]


def _claim(source: Source, service: str, files: list[SourceFile]) -> FormatClaim:
    about = _SERVICES[service]
    claimed = {f.name for f in files}
    described = tuple(
        (f.name, f"it describes an export of {service}, and holds no messages")
        for f in source.files
        if f.name not in claimed and about.described.match(parts(f.name)[-1])
    )
    return FormatClaim(
        ChatExport(service), tuple(files), 1.0, f"messages of {service}", kind=about.kind, described=described
    )
