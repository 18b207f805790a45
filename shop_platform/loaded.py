"""The source as it was when it was loaded: the state that the sensor compares, and what has changed in it since."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from psycopg.types.json import Jsonb

from shop_platform.resources.postgres import Connection
from shop_platform.sources.base import Part, Shop

#: What is loaded by itself: users, products and events together, and the search logs.
Loaded = Literal["commerce", "user_logs"]

_UNTIL = " until "


@dataclass(frozen=True)
class Moved:
    """Files of a source, or whatever it is made of, compared with those of the load before: how many of each."""

    new: int
    changed: int
    gone: int

    def __str__(self) -> str:
        """For people."""
        files = "file" if self.new == 1 else "files"
        return f"{self.new:,} {files} new, {self.changed:,} changed, {self.gone:,} gone"


def moved(before: Mapping[str, Part], now: Mapping[str, Part]) -> Moved:
    """What is new, changed or gone, by name and content; a file of a new name is new, whatever it holds."""
    return Moved(
        new=len(now.keys() - before.keys()),
        changed=sum(before[name] != now[name] for name in now.keys() & before.keys()),
        gone=len(before.keys() - now.keys()),
    )


def until(mark: str, due: dt.datetime | None) -> str:
    """A fingerprint or state as it is noted: with when it ends, where the source has rows that lie in the future."""
    return mark if due is None else f"{mark}{_UNTIL}{due.astimezone(dt.UTC).isoformat()}"


def due_of(noted: str) -> dt.datetime | None:
    """When a noted fingerprint or state ends; None where it does not."""
    _, _, due = noted.partition(_UNTIL)
    return dt.datetime.fromisoformat(due) if due else None


def holds(noted: str, mark: str, now: dt.datetime) -> bool:
    """Whether what is noted is this fingerprint or state, and the same data would give the same rows now.

    A row that lay in the future has happened later: by then it must be loaded, though the data are the same. That is
    also so where it only seemed to, to a clock that was slow.
    """
    due = due_of(noted)
    return noted.partition(_UNTIL)[0] == mark and (due is None or now < due)


def note_source(
    connection: Connection, part: Loaded, shop: Shop, state: str, manifest: Mapping[str, Part] | None = None
) -> Moved | None:
    """Note, in the transaction that loads it, the source's state and what it is made of.

    Args:
        connection: in the transaction.
        part: what was loaded.
        shop: whose source it is.
        state: as `Source.state` gave it before anything was read; see `until`.
        manifest: as `Source.manifest` gives it; None where the source is the one that is noted already.

    Returns:
        How the manifest differs from the one before; None where there is none to tell of.
    """
    if manifest is None:
        connection.execute("UPDATE ops.sources SET state = %s WHERE part = %s", [state, part])
        # Loaded before states were noted, or not with this database.
        connection.execute(
            "INSERT INTO ops.sources (part, shop, state) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [part, shop.name, state],
        )
        return None
    row = connection.execute("SELECT manifest FROM ops.sources WHERE part = %s", [part]).fetchone()
    before = {} if row is None else {name: Part(*each) for name, each in row[0].items()}
    connection.execute(
        "INSERT INTO ops.sources (part, shop, state, manifest) VALUES (%s, %s, %s, %s) ON CONFLICT (part) DO UPDATE"
        " SET shop = excluded.shop, state = excluded.state, manifest = excluded.manifest, loaded_at = now()",
        [part, shop.name, state, Jsonb(dict(manifest))],
    )
    return moved(before, manifest) if before or manifest else None


def loaded_states(connection: Connection) -> dict[str, str]:
    """The state of the source at its last load, by what was loaded."""
    return dict(connection.execute("SELECT part, state FROM ops.sources").fetchall())


def forget_state(connection: Connection, part: Loaded, why: str) -> None:
    """Note, in place of the state of the source, why what is loaded is no longer of it; nothing where there is none."""
    connection.execute("UPDATE ops.sources SET state = %s WHERE part = %s", [why, part])
