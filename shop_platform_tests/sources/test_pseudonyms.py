"""A source that gives pseudonyms in place of users' ids."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pyarrow as pa
import pytest

from shop_platform.errors import SettingsError
from shop_platform.resources.shop import ShopResource
from shop_platform.settings import load_settings
from shop_platform.sources.load import load_shop
from shop_platform.sources.pseudonyms import Pseudonymised, is_pseudonym, known_as, names_of

from ..commerce.lists import ListSource, event, shop_of, user

KEY = b"a key of this test's own, no less"


def ids(batches: object) -> list[str]:
    found: list[str] = pa.Table.from_batches(batches).column("user_id").to_pylist()
    return found


def test_one_person_has_one_pseudonym_in_users_and_events() -> None:
    source = ListSource([user("a"), user("b")], event_rows=[event("a"), event("b"), event("a")], left_out={"odd": 2})
    named = Pseudonymised(source, KEY)
    assert ids(named.users().batches) == [named.name("a"), named.name("b")]
    extract = named.events()
    assert ids(extract.batches) == [named.name("a"), named.name("b"), named.name("a")]
    assert (extract.rows_read, extract.left_out) == (5, {"odd": 2})


def test_it_is_a_keyed_hash() -> None:
    named = Pseudonymised(ListSource(), KEY)
    expected = hmac.new(KEY, "ä".encode(), hashlib.sha256).hexdigest()[:32]
    assert named.name("ä") == f"p_{expected}"
    assert is_pseudonym(named.name("ä"))
    assert named.name("ä") != Pseudonymised(ListSource(), KEY[::-1]).name("ä")


def test_another_key_is_another_version_of_the_source_and_shows_nothing_of_the_key() -> None:
    source = ListSource()
    prints = {
        (each.fingerprint(), each.state())
        for each in (source, *(Pseudonymised(source, key * 32) for key in (b"x", b"y")))
    }
    assert len(prints) == 3
    assert "test" not in repr(Pseudonymised(source, KEY))


def test_people_are_found_by_their_ids_and_by_their_pseudonyms() -> None:
    shop = shop_of(ListSource())
    assert (known_as(shop, "a"), names_of(shop, "a")) == ("a", ("a",))
    named = Pseudonymised(ListSource(), KEY)
    shop = replace(shop, source=named)
    assert known_as(shop, "a") == named.name("a") == known_as(shop, named.name("a"))
    assert names_of(shop, "a") == ("a", named.name("a"))


def test_all_of_a_synthetic_shop_is_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"USERS": "30", "EVENTS": "400", "SEARCHES": "90", "PSEUDONYM_KEY": KEY.decode()}.items():
        monkeypatch.setenv(f"SHOP_{name}", value)
    source, named = load_shop(load_settings()).source, ShopResource().shop().source
    assert isinstance(named, Pseudonymised)
    truth, told = source.truth(), named.truth()
    assert truth is not None
    assert told is not None
    assert ids(told.personas) == [named.name(each) for each in ids(truth.personas)]
    for kind in ("users", "events", "searches"):
        rows = ids(getattr(source, kind)().batches)
        assert ids(getattr(named, kind)().batches) == [named.name(each) for each in rows]
    assert named.products().rows_read == 20


def test_a_short_key_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PSEUDONYM_KEY", "sesame")
    with pytest.raises(SettingsError, match=r"SHOP_PSEUDONYM_KEY: .*at least 32") as caught:
        load_settings()
    assert "sesame" not in str(caught.value)
