"""The fenced blocks of a Markdown page, and a workplace that runs them as a reader of the page would."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n+)?"
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}) *(?P<language>[^\s`]*)[^\n`]*\n(?P<text>.*?)^[ \t]*(?P=fence)`*[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
PORT = re.compile(r"\b9\d{3}\b")  # the pages use ports from 9000 to 9999
NAMED = re.compile(r"# (\S+\.\w+)\b")  # a first line such as `# tokens.yaml` names the file that a block shows


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and why it is not run (empty: it is run)."""

    language: str
    text: str
    line: int
    reason: str


def blocks_of(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("indent")) + 1
        yield Block(found["language"], textwrap.dedent(found["text"]), line, found["reason"] or "")


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Workplace:
    """A folder, a home and a Python namespace that the blocks of one page share. Each port becomes a free port."""

    folder: Path
    home: Path
    names: dict[str, Any] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)
    servers: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, block: Block) -> None:
        """Runs a block. A failure names the line of the page."""
        text = PORT.sub(lambda port: self.ports.setdefault(port[0], str(free_port())), block.text)
        if named := NAMED.match(text):
            (self.folder / named[1]).write_text(text)
        elif block.language == "python":
            exec(compile("\n" * block.line + text, "page", "exec"), self.names)
        elif block.language == "console":
            for command, shown in commands_of(text):
                self._command(command, shown)

    def _command(self, command: str, shown: str) -> None:
        if " serve" in command:
            self._serve(command)
            return
        done = subprocess.run(
            ["bash", "-euc", command], cwd=self.folder, env=self._environment(), capture_output=True, text=True
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\n{printed}"
        assert pattern_of(shown).search(printed), f"{command}\nprints:\n{printed}\nthe page shows:\n{shown}"

    def _serve(self, command: str) -> None:
        log = self.folder / "server.log"
        with log.open("w") as out:
            started = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self._environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.servers.append(started)
        until = time.monotonic() + 120
        while "Serving on" not in log.read_text():
            assert started.poll() is None and time.monotonic() < until, f"{command}\n{log.read_text()}"
            time.sleep(0.05)

    def _environment(self) -> dict[str, str]:
        tools = self.folder.parent / "bin"
        tools.mkdir(exist_ok=True)
        for name, module in {"choline-data": "-m choline_data", "python": ""}.items():
            (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
            (tools / name).chmod(0o755)
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "CHOLINE_DATA_HOME": str(self.home), "COLUMNS": "120"}

    def close(self) -> None:
        """Ends the servers."""
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        for server in self.servers:
            server.wait(60)


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, with the output that the page shows after it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        length = 1 + next((n for n, line in enumerate(lines) if not line.endswith("\\")), 0)
        yield "\n".join(lines[:length]), "\n".join(lines[length:])


def pattern_of(shown: str) -> re.Pattern[str]:
    """What the printed text must contain. In the shown text `…` stands for any text, and blanks for any blanks."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in shown.split("…")]
    return re.compile(r".*?".join(parts), re.DOTALL)
