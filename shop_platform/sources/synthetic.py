"""The synthetic shop: a believable shop of any size from a seed, as record batches; same seed, same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from shop_platform.settings import Scale, Settings
from shop_platform.sources.base import Extract, Shop, Source, Truth
from shop_platform.sources.parameters import PERSONAS, ShopParameters, return_probability

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from shop_platform.sources.activity import Cells, Users

#: Raised whenever the same parameters give other data than before.
VERSION = 1

EVENT_TYPES = ("viewed", "add_to_cart", "purchased")

_BATCH = 100_000


def synthetic_shop(settings: Settings) -> Shop:
    """The synthetic shop of the size that the settings ask for; one of another scale is another shop."""
    parameters = ShopParameters(
        seed=settings.seed,
        users=settings.users,
        products=settings.products,
        events=settings.events,
        searches=settings.searches,
        start=settings.start,
    )
    return Shop(
        name=shop_name(settings.scale),
        title="Synthetic shop" if settings.scale == "50k" else f"Synthetic shop, {settings.scale}",
        time_zone=settings.time_zone or "UTC",
        currency="EUR",
        source=SyntheticSource(parameters),
        notes=(f"Every row is drawn from seed {parameters.seed}; no such shop exists.",),
    )


def shop_name(scale: Scale) -> str:
    """What a synthetic shop is called: "shop" at the default scale, else with the scale behind, as in "shop_50m"."""
    return "shop" if scale == "50k" else f"shop_{scale}"


@dataclass(frozen=True)
class SyntheticSource(Source):
    """A shop drawn from parameters."""

    parameters: ShopParameters

    def fingerprint(self) -> str:
        """Hash of the generator's version and of all parameters."""
        text = json.dumps([VERSION, asdict(self.parameters)], default=str, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def users(self) -> Extract:
        """Users in the order of their signup, `u0001` upward."""
        return Extract(self._user_batches(), self.parameters.users)

    def products(self) -> Extract:
        """Products, `p01` upward."""
        import pyarrow as pa

        from shop_platform.sources.catalogue import catalogue

        rows = [asdict(product) for product in catalogue(self.parameters.products)]
        schema = pa.schema(
            [("product_id", pa.string()), ("name", pa.string()), ("category", pa.string()), ("price", _price_type())]
        )
        return Extract(iter([pa.RecordBatch.from_pylist(rows, schema=schema)]), len(rows))

    def events(self) -> Extract:
        """Events in the order of time, numbered from 1."""
        return Extract(self._event_batches(), self.parameters.events)

    def searches(self) -> Extract:
        """Search logs in the order of time."""
        return Extract(self._search_batches(), self.parameters.searches)

    def truth(self) -> Truth:
        """Each user's persona and weekly return probabilities, and the parameters."""
        parameters: dict[str, Any] = json.loads(json.dumps(asdict(self.parameters), default=str))
        parameters["version"] = VERSION
        parameters["return_probability"] = {
            name: [return_probability(name, week) for week in range(53)] for name in PERSONAS
        }
        return Truth(parameters, self._truth_batches())

    def _drawn(self) -> tuple[Users, Cells]:
        from shop_platform.sources.activity import draw_cells, draw_users

        users = draw_users(self.parameters)
        return users, draw_cells(self.parameters, users)

    def _user_ids(self) -> pa.Array:
        return _numbered("u", max(4, len(str(self.parameters.users))), self.parameters.users)

    def _product_ids(self) -> pa.Array:
        return _numbered("p", max(2, len(str(self.parameters.products))), self.parameters.products)

    def _user_batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from shop_platform.sources.activity import draw_users
        from shop_platform.sources.people import people

        signup = draw_users(self.parameters).signup
        ids = self._user_ids()
        rows = people(self.parameters.seed, self.parameters.users)
        for first in range(0, self.parameters.users, _BATCH):
            columns = list(zip(*islice(rows, _BATCH), strict=True))
            texts = [pa.array(column, pa.string()) for column in columns]
            count = len(columns[0])
            yield pa.RecordBatch.from_arrays(
                [ids.slice(first, count), _times(signup[first : first + count]), *texts],
                names=["user_id", "signup_date", "name", "email", "city", "country"],
            )

    def _event_batches(self) -> Iterator[pa.RecordBatch]:
        import numpy as np
        import pyarrow as pa

        from shop_platform.sources.activity import draw_events
        from shop_platform.sources.catalogue import catalogue

        users, cells = self._drawn()
        user_ids, product_ids, kinds = self._user_ids(), self._product_ids(), pa.array(EVENT_TYPES)
        next_id = 1
        for block in draw_events(self.parameters, users, cells, catalogue(self.parameters.products)):
            for first in range(0, len(block.time), _BATCH):
                part = slice(first, first + _BATCH)
                time = _times(block.time[part])
                yield pa.RecordBatch.from_arrays(
                    [
                        pa.array(np.arange(next_id, next_id + len(time))),
                        user_ids.take(pa.array(block.user[part])),
                        product_ids.take(pa.array(block.product[part])),
                        kinds.take(pa.array(block.kind[part])),
                        time,
                    ],
                    names=["event_id", "user_id", "product_id", "event_type", "timestamp"],
                )
                next_id += len(time)

    def _search_batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from shop_platform.sources.catalogue import catalogue
        from shop_platform.sources.searches import draw_searches

        users, cells = self._drawn()
        found = draw_searches(self.parameters, users, cells, catalogue(self.parameters.products))
        user_ids, product_ids = self._user_ids(), self._product_ids().to_pylist()
        for first in range(0, len(found.query), _BATCH):
            part = slice(first, first + _BATCH)
            yield pa.RecordBatch.from_arrays(
                [
                    user_ids.take(pa.array(found.user[part])),
                    pa.array(found.query[part], pa.string()),
                    pa.array([[product_ids[i] for i in row] for row in found.clicked[part]], pa.list_(pa.string())),
                    _times(found.time[part]),
                ],
                names=["user_id", "search_query", "clicked_product_ids", "timestamp"],
            )

    def _truth_batches(self) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from shop_platform.sources.activity import draw_users

        persona = draw_users(self.parameters).persona
        ids = self._user_ids()
        traits = pa.array(
            [json.dumps({"weekly_return": [return_probability(name, week) for week in range(8)]}) for name in PERSONAS]
        )
        for first in range(0, self.parameters.users, _BATCH):
            drawn = pa.array(persona[first : first + _BATCH])
            yield pa.RecordBatch.from_arrays(
                [ids.slice(first, len(drawn)), pa.array(PERSONAS).take(drawn), traits.take(drawn)],
                names=["user_id", "persona", "traits"],
            )


def _numbered(letter: str, width: int, count: int) -> pa.Array:
    """Ids such as u0001, made without a Python object each."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = pa.array(np.arange(1, count + 1)).cast(pa.string())
    return pc.binary_join_element_wise(letter, pc.utf8_lpad(numbers, width, "0"), "")


def _times(microseconds: NDArray[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(microseconds, pa.int64()).cast(pa.timestamp("us", "UTC"))


def _price_type() -> pa.DataType:
    import pyarrow as pa

    return pa.decimal128(12, 2)
