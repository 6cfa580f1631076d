"""Computes, from the system calls of a command, what a disk contains after a power cut at any moment of the command.

The model is the hardest that POSIX allows: the bytes of a file are lost unless the file was synced, and a name in a folder
is lost unless that folder was synced. The second model keeps names and loses bytes, as a file system does that writes its
journal first. Files of a home are written once from front to back, so their bytes need not be recorded: they are those
of the file that there is at the end, or that there was when it was removed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "open,openat,creat,write,writev,pwrite64,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir"
)
_CALL = re.compile(r"^(\d+)\s+(\w+)\((.*)\)\s+= (-?\d+)")
_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OPEN_FILE = re.compile(r"^\d+<([^>]*)>")


@dataclass
class Node:
    """A file or folder: what of it is on the disk, and what the processes see."""

    folder: bool = False
    size: int = 0
    synced: int = 0
    names: dict[str, Node] = field(default_factory=dict)
    kept: dict[str, Node] = field(default_factory=dict)
    content: bytes = b""


class Disk:
    """The tree below one folder, which is there and settled before anything is replayed."""

    def __init__(self, top: Path) -> None:
        self.top = str(top)
        self.root = Node(folder=True)
        self._take(top, self.root)

    def _take(self, path: Path, node: Node) -> None:
        for entry in sorted(path.iterdir()):
            new = Node(folder=entry.is_dir())
            if new.folder:
                self._take(entry, new)
            else:
                new.content = entry.read_bytes()
                new.size = new.synced = len(new.content)
            node.names[entry.name] = node.kept[entry.name] = new

    def find(self, path: str) -> tuple[Node, str] | None:
        """The folder that holds the path, and the name in it; None for what lies elsewhere."""
        if not path.startswith(self.top + "/"):
            return None
        node = self.root
        *above, last = path[len(self.top) + 1 :].split("/")
        for name in above:
            node = node.names[name]
        return node, last

    def _node(self, path: str) -> Node | None:
        if path == self.top:
            return self.root
        place = self.find(path)
        return place[0].names.get(place[1]) if place else None

    def apply(self, call: str, arguments: str, result: int) -> bool:
        """One system call; whether it changed what a power cut may leave."""
        opened = _OPEN_FILE.match(arguments)
        names = [name.encode().decode("unicode_escape") for name in _NAME.findall(arguments)]
        if call in ("write", "writev", "pwrite64"):
            node = self._node(opened[1]) if opened else None
            if node is None:
                return False
            node.size += result
        elif call in ("fsync", "fdatasync"):
            node = self._node(opened[1].removesuffix(" (deleted)")) if opened else None
            if node is None:
                return False
            node.synced, node.kept = node.size, dict(node.names)
        elif call in ("open", "openat", "creat"):
            place = self.find(names[0])
            if place is None or "O_CREAT" not in arguments or place[1] in place[0].names:
                return False
            place[0].names[place[1]] = Node()
        elif call in ("mkdir", "mkdirat"):
            place = self.find(names[0])
            if place is None:
                return False
            place[0].names[place[1]] = Node(folder=True)
        elif call in ("unlink", "unlinkat", "rmdir"):
            place = self.find(names[0])
            if place is None:
                return False
            del place[0].names[place[1]]
        else:  # link or rename
            old, new = self.find(names[0]), self.find(names[1])
            if old is None or new is None:
                return False
            node = old[0].names[old[1]]
            if call.startswith("rename"):
                del old[0].names[old[1]]
            new[0].names[new[1]] = node
        return True

    def fill(self, path: Path, node: Node | None = None) -> None:
        """Gives each file the bytes that it has at the end."""
        node = node or self.root
        for name, child in node.names.items():
            if child.folder:
                self.fill(path / name, child)
            else:
                child.content = (path / name).read_bytes()


def recorded(command: list[str], top: Path, log: Path) -> list[tuple[str, str, int]]:
    """Runs the command and gives the system calls that succeeded, in order."""
    strace = ["strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", f"trace={CALLS}", "-e", "status=successful"]
    # Long names are never cut, only the bytes of writes are.
    done = subprocess.run([*strace, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found, begun = [], {}
    for line in log.read_text().splitlines():
        pid = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[pid] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        if "resumed>" in line:
            line = begun.pop(pid) + line.split("resumed>", 1)[1]
        match = _CALL.match(line)
        if match and int(match[4]) >= 0 and str(top) in line:
            found.append((match[2], match[3], int(match[4])))
    return found


def works() -> bool:
    """Whether system calls can be recorded here."""
    if shutil.which("strace") is None:
        return False
    try:
        return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def cuts(top: Path, command: list[str], log: Path) -> Iterator[tuple[int, dict[str, bytes | None]]]:
    """Runs the command, then gives each different disk that a power cut during it leaves; the last are those after it.

    The number is how many calls are still to come.
    """
    disk = Disk(top)
    calls = recorded([sys.executable, "-m", "choline_data", *command], top, log)
    states: list[tuple[int, dict[str, tuple[Node, int] | None]]] = []
    for number, call in enumerate(calls):
        if disk.apply(*call) or number == len(calls) - 1:
            states += [(len(calls) - 1 - number, _sizes(disk, kept)) for kept in (False, True)]
    # Only now do the files have their bytes. Those that are gone by now were staged, and no name led to them.
    disk.fill(top)
    seen = set()
    for left, sizes in states:
        state = {
            path: None if each is None else each[0].content[: each[1]].ljust(each[1], b"\0")
            for path, each in sizes.items()
        }
        key = (hash(tuple(sorted((k, v) for k, v in state.items() if v is not None))), not left)
        if key not in seen:
            seen.add(key)
            yield left, state


def _sizes(disk: Disk, names_are_kept: bool) -> dict[str, tuple[Node, int] | None]:
    found: dict[str, tuple[Node, int] | None] = {}
    todo = [("", disk.root)]
    while todo:
        at, node = todo.pop()
        for name, child in (node.names if names_are_kept else node.kept).items():
            path = f"{at}/{name}".lstrip("/")
            if child.folder:
                found[path] = None
                todo.append((path, child))
            else:
                found[path] = (child, child.synced)
    return found


def lay_out(state: dict[str, bytes | None], folder: Path) -> None:
    """Writes such a disk into an empty folder."""
    for path, content in sorted(state.items(), key=lambda item: item[0].count("/")):
        if content is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
