"""Exports of chats: every message has its text, its speaker and its time, and nothing of it is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.chat_exports import ChatExport
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.text_records.whatsapp import WhatsApp
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import IngestPlan, Wishes, plan_source

CLAUDE = [{
    "uuid": "c1", "name": "Talk", "created_at": "2024-01-01T00:00:00Z", "account": {"uuid": "u"},
    "chat_messages": [
        {"uuid": "m1", "text": "Why?", "content": [{"type": "text", "text": "Why?"}], "sender": "human", "attachments": []},
        {"uuid": "m2", "text": "", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "cause."}],
         "sender": "assistant", "files": [{"file_name": "a.txt"}]},
    ],
}]  # fmt: skip
SLACK = [
    {"type": "message", "user": "U1", "text": "Hello", "ts": "1704067200.000200", "user_profile": {"real_name": "Ann"}},
    {"type": "message", "subtype": "bot_message", "username": "bot", "text": "Hi", "ts": "1704067201.000000"},
]
DISCORD = {
    "guild": {"id": "1"}, "channel": {"id": "2", "name": "general"},
    "messages": [{"id": "9", "timestamp": "2024-01-01T00:00:00+00:00", "content": "Hello", "author": {"id": "1", "name": "ann"}}],
}  # fmt: skip
TELEGRAM = {
    "name": "Group", "type": "private_group", "id": 1,
    "messages": [
        {"id": 1, "type": "service", "date": "2024-01-01T02:00:00", "date_unixtime": "1704067200", "actor": "Ann", "text": ""},
        {"id": 2, "type": "message", "date": "2024-01-01T02:00:01", "date_unixtime": "1704067201", "from": "Ben",
         "text": ["See ", {"type": "link", "text": "http://x"}, "."], "text_entities": []},
    ],
}  # fmt: skip
WHATSAPP = (
    "12/05/2024, 10:10 - Messages and calls are end-to-end encrypted.\n"
    "12/05/2024, 10:11 - Ann: Hello: you\n\nsecond line\n12/05/2024, 10:12 - Ben: a.pdf (file attached)\n"
)
IPHONE = (
    "[12.05.24, 10:11:12] Ann: Hello\n\u200e[12.05.24, 10:11:13] Ben: \u200e<attached: 1.jpg>\n"
    "[12.05.24, 10:11:14\u202fPM] Ann: Bye\n"
)


def planned(path: Path) -> IngestPlan:
    return plan_source(resolve(str(path)), "x", Wishes())


def rows_of(path: Path) -> tuple[str, list[dict[str, Any]]]:
    (part,) = planned(path).parts
    rows = [row for shard in part.shards for chunk in part.adapter.read(shard) for row in chunk.batch.to_pylist()]
    return part.mapping.kind, [{k: v for k, v in row.items() if v is not None} for row in rows]


def test_claude_is_conversations_beside_files_that_describe_them(write: Callable[..., Path]) -> None:
    write("d/users.json", json.dumps([{"uuid": "u", "full_name": "Ann"}]))
    write("d/projects.json", json.dumps([{"uuid": "p", "docs": []}]))
    path = write("d/conversations.json", json.dumps(CLAUDE))
    kind, (row,) = rows_of(path.parent)
    assert kind == "chat"
    assert [(m["role"], m["content"]) for m in row["messages"]] == [("human", "Why?"), ("assistant", "Be\ncause.")]
    assert row["messages"][1]["files"] == [{"file_name": "a.txt"}]
    assert (row["uuid"], row["name"], row["account"]) == ("c1", "Talk", {"uuid": "u"})
    assert {f.name: f.role for f in planned(path.parent).account} == {
        "conversations.json": "used", "users.json": "described", "projects.json": "described"}  # fmt: skip


def test_slack_is_messages_of_channels(write: Callable[..., Path]) -> None:
    write("d/users.json", json.dumps([{"id": "U1", "name": "ann"}]))
    write("d/channels.json", json.dumps([{"id": "C1", "name": "general"}]))
    path = write("d/general/2024-01-01.json", json.dumps(SLACK))
    write("d/random/2024-01-01.json", json.dumps([{**SLACK[0], "text": "Other"}]))
    kind, rows = rows_of(path.parent.parent)
    assert kind == "text"
    assert [(r["text"], r["speaker"], r["channel"]) for r in rows] == [
        ("Hello", "Ann", "general"), ("Hi", "bot", "general"), ("Other", "Ann", "random")]  # fmt: skip
    assert [r["time"] for r in rows[:2]] == ["2024-01-01T00:00:00.000200+00:00", "2024-01-01T00:00:01+00:00"]


def test_discord_is_messages(write: Callable[..., Path]) -> None:
    kind, (row,) = rows_of(write("a.json", json.dumps(DISCORD)))
    assert kind == "text"
    assert row == {"text": "Hello", "speaker": "ann", "time": "2024-01-01T00:00:00+00:00", "channel": "general", "id": "9",
                   "author": {"id": "1", "name": "ann"}}  # fmt: skip


@pytest.mark.parametrize("whole_account", [False, True])
def test_telegram_is_messages_in_utc(write: Callable[..., Path], whole_account: bool) -> None:
    found = {"about": "x", "chats": {"about": "y", "list": [TELEGRAM]}} if whole_account else TELEGRAM
    kind, rows = rows_of(write("result.json", json.dumps(found)))
    assert kind == "text"
    assert [(r["text"], r["speaker"], r["time"], r["local_date"]) for r in rows] == [
        ("", "Ann", "2024-01-01T00:00:00+00:00", "2024-01-01T02:00:00"),
        ("See http://x.", "Ben", "2024-01-01T00:00:01+00:00", "2024-01-01T02:00:01"),
    ]


def test_whatsapp_is_messages_of_several_lines(write: Callable[..., Path]) -> None:
    kind, rows = rows_of(write("WhatsApp Chat with Ben.txt", WHATSAPP))
    assert kind == "text"
    assert rows == [
        {"text": "Messages and calls are end-to-end encrypted.", "written": "12/05/2024, 10:10"},
        {"text": "Hello: you\n\nsecond line", "speaker": "Ann", "written": "12/05/2024, 10:11"},
        {"text": "a.pdf (file attached)", "speaker": "Ben", "written": "12/05/2024, 10:12", "attachment": "a.pdf"},
    ]
    _, rows = rows_of(write("_chat.txt", IPHONE))
    assert [(r["speaker"], r["text"], r.get("attachment")) for r in rows] == [
        ("Ann", "Hello", None), ("Ben", "<attached: 1.jpg>", "1.jpg"), ("Ann", "Bye", None)]  # fmt: skip


def test_chatgpt_is_not_confused_by_the_files_beside_it(write: Callable[..., Path]) -> None:
    node = {
        "id": "a",
        "parent": None,
        "children": [],
        "message": {"author": {"role": "user"}, "content": {"parts": ["Why?"]}},
    }
    path = write("d/conversations.json", json.dumps([{"title": "T", "mapping": {"a": node}, "current_node": "a"}]))
    write("d/user.json", '{"id": "u", "email": "x"}')
    write("d/chat.html", "<html><body>all of it again</body></html>")
    assert rows_of(path.parent)[0] == "chat"


class TestChatExport(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return ChatExport("telegram")

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        messages = [{"id": n, "from": "Ann", "text": f"Line {n}", "date_unixtime": str(n)} for n in range(5000)]
        return [source_file(write("a.json", json.dumps({"name": "G", "messages": [*messages, 5]})))]


class TestWhatsApp(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return WhatsApp()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        lines = "".join(f"12/05/2024, 10:11 - Ann: Line {n}\nmore\n" for n in range(5000))
        return [source_file(write("a.txt", "torn\n" + lines))]
