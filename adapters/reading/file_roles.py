"""The role of each file of a source, from the claims of the formats."""

from __future__ import annotations

from collections.abc import Iterable

from choline_data.adapters.base import DESCRIBED, JOINED, LEFT_OUT, USED, FileRole, FormatClaim, SourceFile
from choline_data.adapters.reading.names import is_about


def roles_of(claims: Iterable[FormatClaim]) -> tuple[FileRole, ...]:
    """The roles that the claims give to files and to members of archives. A file that two claims name has its best role."""
    found: dict[str, FileRole] = {}
    for claim in claims:
        joined = dict(claim.joined)
        for name, reason in claim.passed_over:
            found.setdefault(name, FileRole(name, DESCRIBED if is_about(name) else LEFT_OUT, reason))
        for file in claim.files:
            if file.name not in joined:
                found[file.name] = FileRole(file.name, USED)
        for role in claim.members:
            if role.role == USED or found.get(role.name, role).role != USED:
                found[role.name] = role
        for name, reason in joined.items():
            if found.get(name, _NOTHING).role != USED:
                found[name] = FileRole(name, JOINED, reason)
    return tuple(found.values())


def unclaimed(file: SourceFile) -> FileRole:
    """The role of a file that no format claimed."""
    about = is_about(file.name)
    return FileRole(file.name, DESCRIBED if about else LEFT_OUT, "" if about else "no adapter knows it")


_NOTHING = FileRole("", LEFT_OUT)
