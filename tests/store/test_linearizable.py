"""Two actors on one catalog, stepped call by call in drawn orders and stopped at drawn steps: some serial order explains it."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from choline_data.errors import AlreadyExistsError, ConflictError, UnknownDatasetError
from choline_data.places.home import Home
from choline_data.store import Catalog, Entry, Manifest, leases
from choline_data.store.leases import check_written, writing
from choline_data.store.object_names import manifest_name
from choline_data.upkeep.garbage import collect
from choline_data.upkeep.verify import verify

STEPPED = ("create", "put", "exists", "read", "names", "listed", "hint", "missing", "remove")
MANIFESTS = [Manifest((), ("text",), 4, {"kind": "text", "number": str(number)}) for number in range(3)]
NAMES = ("a", "b")


class StoppedError(BaseException):
    """The actor ends here, whatever it was about to do."""


class Turns:
    """Lets one of two threads run at a time, from one call of the home to the next."""

    def __init__(self, order: list[int]) -> None:
        self._order = itertools.chain(order, itertools.cycle((0, 1)))
        self._turn = next(self._order)
        self._alive = {0, 1}
        self._changed = threading.Condition()
        self.clock = 0

    def step(self, actor: int) -> None:
        with self._changed:
            self._next()
            self._changed.wait_for(lambda: self._turn == actor)
            self.clock += 1

    def end(self, actor: int) -> None:
        with self._changed:
            self._alive.discard(actor)
            self._next()

    def _next(self) -> None:
        if self._alive:
            self._turn = next(turn for turn in self._order if turn in self._alive)
        self._changed.notify_all()


class Stepped(Home):
    """A home in which an actor's thread waits for its turn before each call."""

    def __init__(self, folder: Path, turns: Turns, actor: int, stop: int) -> None:
        super().__init__(folder)
        self.counter = {"left": stop, "inside": 0}
        thread = threading.get_ident()
        for name in STEPPED:
            setattr(self, name, self._at_turn(getattr(super(), name), turns, actor, thread))

    def _at_turn(self, call: Any, turns: Turns, actor: int, thread: int) -> Any:
        def stepped(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() == thread and not self.counter["inside"]:
                turns.step(actor)
                self.counter["left"] -= 1
                if self.counter["left"] <= 0:
                    raise StoppedError
            self.counter["inside"] += 1
            try:
                return call(*arguments, **options)
            finally:
                self.counter["inside"] -= 1

        return stepped


@dataclass
class Done:
    """An operation, when it ran, and what came of it; "stopped" may have had its effect or not."""

    what: tuple[str, str, int]
    began: int
    ended: int = 1 << 30
    outcome: str = "stopped"


@dataclass
class Actor:
    """One thread's operations and their outcomes."""

    number: int
    script: list[tuple[str, str, int]]
    stop: int
    done: list[Done] = field(default_factory=list)

    def run(self, folder: Path, turns: Turns) -> None:
        try:
            home = Stepped(folder, turns, self.number, self.stop)
            turns.step(self.number)
            for what in self.script:
                self.done.append(Done(what, turns.clock))
                self.done[-1].outcome = self._do(home, *what)
                self.done[-1].ended = turns.clock
        except StoppedError:
            pass
        finally:
            turns.end(self.number)

    def _do(self, home: Home, kind: str, name: str, number: int) -> str:
        try:
            if kind == "gc":
                collect(home, keep_days=0)
            elif kind == "remove":
                Catalog(home).remove(name)
            else:
                publish(home, name, MANIFESTS[number])
        except AlreadyExistsError:
            return "exists"
        except UnknownDatasetError:
            return "unknown"
        except ConflictError:
            return "stopped"
        return "ok"


def publish(home: Home, name: str, manifest: Manifest) -> None:
    """What an add does once its rows are written."""
    with writing(home, f"add {name}") as held:
        held.put(manifest_name(manifest.revision), manifest.encode())
        wanted = [manifest_name(manifest.revision)]
        entry = Entry(name, manifest.revision, "text", 0, 0)
        Catalog(held).publish(entry, check=lambda: check_written(held, wanted))


def explained(history: list[list[Done]], final: dict[str, str]) -> bool:
    """Whether a serial order that respects who ended before whom gives these outcomes and this catalog."""
    every = [(actor, at) for actor, done in enumerate(history) for at in range(len(done))]

    def go(used: frozenset[tuple[int, int]], state: dict[str, str]) -> bool:
        left = [which for which in every if which not in used]
        if not left:
            return state == final
        for actor, at in left:
            done = history[actor][at]
            if any(
                history[a][i].ended < done.began or (a == actor and i < at) for a, i in left if (a, i) != (actor, at)
            ):
                continue
            outcome, after = applied(state, *done.what)
            if done.outcome in (outcome, "stopped") and go(used | {(actor, at)}, after):
                return True
            if done.outcome == "stopped" and go(used | {(actor, at)}, state):
                return True
        return False

    return go(frozenset(), {})


def applied(state: dict[str, str], kind: str, name: str, number: int) -> tuple[str, dict[str, str]]:
    """The outcome and the catalog after an operation that nothing disturbs."""
    revision = MANIFESTS[number].revision
    if kind == "publish":
        if state.get(name, revision) != revision:
            return "exists", state
        return "ok", {**state, name: revision}
    if kind == "remove":
        if name not in state:
            return "unknown", state
        return "ok", {key: value for key, value in state.items() if key != name}
    return "ok", state


operations = st.tuples(
    st.sampled_from(("publish", "publish", "remove", "gc")), st.sampled_from(NAMES), st.integers(0, 2)
)
scripts = st.lists(operations, min_size=1, max_size=4)
stops = st.one_of(st.just(1 << 30), st.integers(1, 60))


@settings(max_examples=300)
@given(scripts, scripts, stops, stops, st.lists(st.integers(0, 1), min_size=1, max_size=120))
def test_any_interleaving_of_two_actors_is_that_of_some_serial_order(
    tmp_path_factory, first, second, first_stop, second_stop, order
):
    folder = tmp_path_factory.mktemp("home")
    turns = Turns(order)
    actors = [Actor(0, first, first_stop), Actor(1, second, second_stop)]
    threads = [threading.Thread(target=actor.run, args=(folder, turns)) for actor in actors]
    with patch.multiple(leases, _LOOK_SECONDS=0.0, _LOOK_LIMIT=0.0):  # who waits gives the turn away
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    home = Home(folder)
    entries = Catalog(home).entries()
    for entry in entries.values():
        verify(home, entry)
    assert explained([actor.done for actor in actors], {name: entry.revision for name, entry in entries.items()})


def test_an_outcome_that_no_order_gives_is_found():
    lost = [[Done(("publish", "a", 0), 0, 5, "ok")], [Done(("publish", "b", 1), 1, 4, "ok")]]
    assert not explained(lost, {"a": MANIFESTS[0].revision})
    assert explained(lost, {"a": MANIFESTS[0].revision, "b": MANIFESTS[1].revision})
    late = [[Done(("remove", "a", 0), 0, 2, "ok")], [Done(("publish", "a", 0), 3, 5, "ok")]]
    assert not explained(late, {})
