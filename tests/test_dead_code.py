"""The check for dead code finds each kind of it, and passes what is used."""

from __future__ import annotations

from tests.dead_code import Package, unpassed, unused

PACKAGE = {
    "choline_data": "",
    "choline_data.store": "from choline_data.store.files import opened",
    "choline_data.store.files": """
class File:
    size: int = 0
    unread: int = 0

    def read(self, start: int = 0, end: int = 0, *, strict: bool = False) -> bytes:
        return self.size

    def seek(self) -> None:
        self.seek()

def opened() -> File:
    return File().read(3)

def shadowed() -> None: ...
def recursive() -> None:
    recursive()
LIMIT = 3
""",
    "choline_data.cli": """
from choline_data.store import opened as run

def main() -> None:
    shadowed = run()
    print(shadowed)

@app.command()
def serve() -> None: ...
main()
""",
}


def test_what_nothing_uses_is_found():
    files = "choline_data.store.files:"
    assert unused(Package(PACKAGE), set(), set()) == [
        f"{files}File.seek",
        f"{files}File.unread",
        f"{files}LIMIT",
        f"{files}recursive",
        f"{files}shadowed",
    ]


def test_parameters_that_no_call_passes_are_found():
    found = unpassed(Package(PACKAGE), set())
    assert found == ["choline_data.store.files:read(end)", "choline_data.store.files:read(strict)"]


def test_what_is_public_or_used_by_benches_is_no_dead_code():
    package = Package(
        PACKAGE, {"bench/read.py": "from choline_data.store.files import LIMIT, recursive\nrecursive(LIMIT)"}
    )
    found = unused(package, {"seek", "unread"}, {"choline_data.store.files:shadowed"})
    assert found == []
    assert unpassed(package, {"read"}) == []
