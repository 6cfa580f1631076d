"""`choline-data add`: turns the location that a user typed into a dataset in the catalog."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import escape
from typing import Any

from choline_data.adapters.base import Source
from choline_data.catalog.card_at import card_at
from choline_data.catalog.cards import Card
from choline_data.catalog.downloaded import fetch_small, keep_downloaded
from choline_data.catalog.ingest import Ingested, Progress, check_limit, publish
from choline_data.catalog.planning import IngestPlan, Wishes, plan_source
from choline_data.errors import HomeError, UnavailableError
from choline_data.licenses import NOASSERTION
from choline_data.places.home import Home
from choline_data.places.locations import is_url, redacted
from choline_data.store import Catalog
from choline_data.store.leases import writing
from choline_data.store.snapshots import check_name, name_from

MAX_ENCODINGS = 256  # An `add` records the encodings of at most this many files in its options.


@dataclass(frozen=True)
class Prepared:
    """A plan that is ready to run. `replaces` is the revision that the catalog had for the dataset's name when the plan
    was made.
    """

    plan: IngestPlan
    source: Source
    replaces: str | None
    card: dict[str, Any]
    tags: tuple[str, ...] = ()
    added: dict[str, Any] = field(default_factory=dict)  # the source and the options, as `repair` uses them


def _default_name(source: Source, typed: str) -> str:
    if source.name:
        return name_from(source.name)
    last = typed.rstrip("/").split("/")[-1].split("?")[0]
    stem = last.split(".")[0] if not os.path.isdir(typed) else last
    return name_from(stem or last or "dataset")


def prepare(
    home: Home,
    location: str | Sequence[str],
    *,
    name: str = "",
    wishes: Wishes | None = None,
    revision: str = "",
) -> Prepared:
    """Resolves the location, or several, and makes a plan; writes nothing. A card supplies its source, mapping and licence."""
    from choline_data.catalog.sources import resolve_sources

    wishes = wishes or Wishes()
    card: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    places = [location] if isinstance(location, str) else list(location)
    known = card_at(places[0]) if len(places) == 1 else None
    if known is not None:
        card = {"card": known.name}
        tags = tuple(known.tags)
        places, name = [known.source], name or known.name
        revision = revision or known.revision
        wishes = _with_card(wishes, known)
    source = resolve_sources(
        places,
        revision=revision,
        options={key: getattr(wishes, key) for key in ("config", "split", "split_by", "config_by")},
        include=wishes.include,
        exclude=wishes.exclude,
        join=wishes.join,
    )
    name = check_name(name) if name else _default_name(source, places[0])
    there = Catalog(home).entries().get(name)
    if not wishes.limit:
        fetch_small(source)
    plan = plan_source(source, name, wishes)
    added = _recorded_options(
        places, source.revision or revision, replace(wishes, encoding=_encoding_option(plan, wishes))
    )
    return Prepared(plan, source, there.revision if there else None, card, tags, added)


def _with_card(wishes: Wishes, card: Card) -> Wishes:
    """Returns the user's options, completed by the options of the card."""
    return replace(
        wishes,
        # the source itself may state its licence
        license=wishes.license or (card.license if card.license != NOASSERTION else ""),
        as_kind=wishes.as_kind or card.kind,
        form=wishes.form or card.form,
        config=wishes.config or card.config,
        split=wishes.split or card.split,
        split_by=wishes.split_by or card.split_by,
        format=wishes.format or card.adapter,
        fields={**dict(card.mapping), **wishes.fields},
        include=wishes.include or card.include,
        exclude=wishes.exclude or card.exclude,
        join=wishes.join or card.join,
        config_by=wishes.config_by or card.config_by,
        encoding=wishes.encoding or card.encoding,
        header=wishes.header or card.header,
        delimiter=wishes.delimiter or card.delimiter,
    )


def _encoding_option(plan: IngestPlan, wishes: Wishes) -> str:
    """Returns a value for `--encoding` with the detected encodings. A repair uses it, so that it decodes the same text
    even if the detector has changed.
    """
    if wishes.encoding or len(plan.encodings) > MAX_ENCODINGS:
        return wishes.encoding
    return ",".join(f"{escape(name)}={encoding}" for name, encoding in plan.encodings.items() if "," not in name)


def _recorded_options(places: Sequence[str], revision: str, wishes: Wishes) -> dict[str, Any]:
    """Returns the sources and options of this `add`, so that it can be repeated. Empty if a URL contains a secret."""
    if any(is_url(place) and redacted(place) != place for place in places):
        return {}
    default = vars(Wishes())
    options = {key: value for key, value in vars(wishes).items() if value != default[key] and key != "ask"}
    if "fields" in options:
        options["fields"] = dict(options["fields"])
    options |= {key: list(value) for key, value in options.items() if isinstance(value, tuple)}
    locations = [_lasting(place) for place in places]
    more = {"sources": locations} if len(locations) > 1 else {}
    return {"source": " ".join(locations), "revision": revision, "options": options, **more}


def _lasting(place: str) -> str:
    """Returns the location in a form that does not depend on the working folder."""
    return os.path.abspath(place) if os.path.exists(place) or place.startswith((".", "/", "~")) else place


def wishes_of(options: Mapping[str, Any]) -> Wishes:
    """Returns the options that `_recorded_options` recorded."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return Wishes(**values)


def ingest(
    home: Home,
    prepared: Prepared,
    *,
    runner: str = "",
    workers: int = 1,
    scheduler: str = "",
    flags: tuple[str, ...] = (),
    dedup: str = "",
    replace_existing: bool = False,
    check: bool = True,
    progress: Progress | None = None,
) -> Ingested:
    """Runs the plan and publishes the revision. Adding an unchanged source again gives the same revision and no error.

    `check` compares a sample of the stored rows with the source before the revision is visible.
    """
    from choline_data.catalog.runners import run
    from choline_data.catalog.self_check.against_source import check_stored

    plan = prepared.plan
    options: dict[str, Any] = {"workers": workers, "scheduler": scheduler, "flags": flags, "progress": progress}
    try:
        with writing(home, f"add {plan.name}") as leased, keep_downloaded(plan, prepared.source):
            results = check_limit(run(plan, leased, runner=runner, **options), plan, leased)
            if check:
                check_stored(plan, leased, results)
            return publish(
                plan,
                leased,
                results,
                replaces=prepared.replaces if replace_existing else None,
                dedup=dedup,
                card=prepared.card,
                tags=prepared.tags,
                added={**prepared.added, "dedup": dedup} if prepared.added else {},
            )
    except HomeError as error:
        error.remedy = f"{error.remedy} Nothing was published."
        error.args = (f"{error.message} {error.remedy}",)
        raise
    # errors from reading the source were converted before, so this error comes from the home
    except OSError as error:
        raise UnavailableError(
            f"{home.location} can't be written: {error.strerror or error}.",
            remedy="Make room there, or choose another home with --home. Nothing was published.",
        ) from error
