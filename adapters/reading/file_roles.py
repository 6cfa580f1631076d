"""The role of each file of a source, from the claims of the formats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from choline_data.adapters.base import DESCRIBED, JOINED, LEFT_OUT, USED, FileRole, FormatClaim, SourceFile
from choline_data.adapters.reading.known.identity import identify
from choline_data.adapters.reading.names import is_about

MOST_OPENED = 256
UNREAD = "no adapter reads it"


def roles_of(claims: Iterable[FormatClaim]) -> tuple[FileRole, ...]:
    """Returns the roles that the claims give to files and to members of archives. If several claims name a file, USED
    counts before JOINED, and both before the other roles.
    """
    roles: dict[str, FileRole] = {}
    for claim in claims:
        joined = dict(claim.joined)
        for name, reason in claim.passed_over:
            roles.setdefault(name, FileRole(name, DESCRIBED if is_about(name) else LEFT_OUT, reason))
        for name, reason in claim.described:
            roles.setdefault(name, FileRole(name, DESCRIBED, reason))
        for file in claim.files:
            if file.name not in joined:
                roles[file.name] = FileRole(file.name, USED)
        for role in claim.members:
            if role.role == USED or roles.get(role.name, role).role != USED:
                roles[role.name] = role
        for name, reason in joined.items():
            if roles.get(name, _NOTHING).role != USED:
                roles[name] = FileRole(name, JOINED, reason)
    return tuple(roles.values())


def unclaimed(files: Sequence[SourceFile], only: str = "") -> list[FileRole]:
    """Returns the roles of files that no format claimed. Opens the first of them to recognise their format for the
    message.

    `only` is the format if the user asked for just one.
    """
    roles: list[FileRole] = []
    opened = 0
    for file in files:
        if is_about(file.name):
            roles.append(FileRole(file.name, DESCRIBED))
        elif only:
            roles.append(FileRole(file.name, LEFT_OUT, f"--format {only} does not read it"))
        else:
            what = f": {identify(file).what}" if opened < MOST_OPENED else ""
            roles.append(FileRole(file.name, LEFT_OUT, f"{UNREAD}{what}"))
            opened += 1
    return roles


_NOTHING = FileRole("", LEFT_OUT)
