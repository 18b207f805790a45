"""The segments for people: how many are in each, how sure that is, what sets them apart. Arrays in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shop_platform.segmentation.model import Model
from shop_platform.segmentation.pairs import Pairs
from shop_platform.segmentation.publishing import Told
from shop_platform.segmentation.segments import Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: A query is shown only if this many users of a segment share it: no single person's words leave the data.
SHARED_BY = 5

#: How many times the share of others a query must have in a segment to say something about it.
LIFT = 2.0

#: And how many standard errors its log odds must lie above others': of a thousand queries, chance alone reaches one.
STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Profile:
    """One segment of a segmentation, for people and for checks.

    Attributes:
        name, description: of the segment.
        users: how many are in it.
        share: of all users; 0 where there is none.
        mean_confidence: over its users; None where there is none.
        margin: cosine of the mean of its telling queries to its own prototype, less the largest to another's; None
            where there were too few users.
        supported: whether the data show that there are such users.
        queries: what sets it apart: shared queries, the most distinguishing first.
    """

    name: str
    description: str
    users: int
    share: float
    mean_confidence: float | None
    margin: float | None
    supported: bool
    queries: tuple[str, ...]


def profiles_of(told: Told | None, model: Model, segments: Sequence[Segment]) -> tuple[Profile, ...]:
    """The profile of each segment.

    Args:
        told: what the model told of all users; None where it could tell nothing.
        model: by which.
        segments: all, the unsupported too.
    """
    import numpy as np

    number_of = {segment.name: number for number, segment in enumerate(segments)}
    names, confidence = ((), np.zeros(0)) if told is None else told.users
    number = np.array([number_of[name] for name in names], dtype=np.int64)
    queries = ((),) * len(segments) if told is None else distinguishing_queries(told.pairs, number, len(segments))
    profiles = []
    for each, segment in enumerate(segments):
        members = number == each
        users = int(members.sum())
        profiles.append(
            Profile(
                name=segment.name,
                description=segment.description,
                users=users,
                share=users / max(len(number), 1),
                mean_confidence=round(float(confidence[members].mean()), 4) if users else None,
                margin=None if model.margins is None else round(model.margins[each], 4),
                supported=model.fitted and each in model.supported,
                queries=queries[each],
            )
        )
    return tuple(profiles)


def distinguishing_queries(
    pairs: Pairs, segment: NDArray[np.int64], count: int, *, shared_by: int = SHARED_BY, most: int = 8
) -> tuple[tuple[str, ...], ...]:
    """For each segment, the queries that set its users apart, `most` of them at the most.

    Those that at least `shared_by` of its users have, `LIFT` times the share of others, and more than by chance: by
    their log odds ratio against others, `STANDARD_ERRORS` of its own (J. B. S. Haldane, Ann. Hum. Genet. 20, 1956; so
    that of a small segment's rare queries few pass). The surest come first.
    """
    import numpy as np

    if len(pairs.users) == 0:
        return ((),) * count
    having = np.zeros((count, len(pairs.queries)))
    np.add.at(having, (segment[pairs.user], pairs.query), 1)
    sizes = np.bincount(segment, minlength=count)[:, None]
    others, theirs = sizes.sum() - sizes, having.sum(axis=0) - having
    often = having * np.maximum(others, 1) >= LIFT * theirs * np.maximum(sizes, 1)
    # Half a user more in each of the four cells, so that odds and their errors are finite.
    cells = [each + 0.5 for each in (having, sizes - having, theirs, others - theirs)]
    log_odds_ratio = np.log(cells[0] * cells[3] / (cells[1] * cells[2]))
    surety = log_odds_ratio / np.sqrt(sum(1 / each for each in cells))
    score = np.where((having >= shared_by) & often & (surety >= STANDARD_ERRORS), surety, 0.0)
    best = np.argsort(-score, axis=1, kind="stable")[:, :most]
    return tuple(tuple(pairs.queries[i] for i in best[s] if score[s, i] > 0) for s in range(count))
