"""How far the searchers of today are from those whom the segments were learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shop_platform.resources.postgres import Connection
    from shop_platform.segmentation.publishing import Told

#: Learned anew once there are more than so many times the users, shares of segments have moved by more than this in
#: total, or the mean confidence has fallen by more, against when the model was learned.
GROWN, MOVED, FALLEN = 1.5, 0.10, 0.05


@dataclass(frozen=True)
class Crowd:
    """The segmented users in sum.

    Attributes:
        users: how many there are.
        confidence: their mean confidence; 0 where there are none.
        segments: users by segment.
    """

    users: int
    confidence: float
    segments: Mapping[str, int]

    @classmethod
    def published(cls, connection: Connection) -> Crowd:
        """As the table of segments holds it."""
        rows = connection.execute(
            "SELECT segment, count(*), sum(confidence) FROM analytics.user_segments GROUP BY segment ORDER BY segment"
        ).fetchall()
        users = sum(row[1] for row in rows)
        return cls(users, sum(row[2] for row in rows) / max(users, 1), {row[0]: row[1] for row in rows})

    @classmethod
    def told(cls, told: Told) -> Crowd:
        """Of users who were told, not published yet."""
        users = len(told.users[0])
        return cls(users, float(told.users[1].sum()) / max(users, 1), dict(Counter(told.users[0])))

    def as_record(self) -> dict[str, Any]:
        """The same, JSON-able."""
        return asdict(self)


@dataclass(frozen=True)
class Drift:
    """How far two crowds are apart.

    Attributes:
        grown: how many times as many users there are.
        moved: total variation distance between the shares of the segments, in [0, 1].
        fallen: by how much the mean confidence has fallen.
    """

    grown: float
    moved: float
    fallen: float

    @classmethod
    def between(cls, learned: Crowd, now: Crowd) -> Drift:
        """From the crowd that a model was learned from to another."""
        if not learned.users or not now.users:
            return cls(1.0 if learned.users == now.users else float(now.users), 0.0, 0.0)
        names = {*learned.segments, *now.segments}
        moved = sum(
            abs(learned.segments.get(name, 0) / learned.users - now.segments.get(name, 0) / now.users) for name in names
        )
        grown, fallen = now.users / learned.users, learned.confidence - now.confidence
        return cls(round(grown, 4), round(moved / 2, 4), round(fallen, 4))

    @property
    def too_far(self) -> bool:
        """Whether the segments have to be learned anew."""
        return self.grown > GROWN or self.moved > MOVED or self.fallen > FALLEN
