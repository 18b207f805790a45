"""Settings that depend on one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop_platform.errors import SettingsError
from shop_platform.settings import SCALES, Settings, load_settings
from shop_platform.sources.load import load_shop


def test_the_smallest_scale_is_the_default() -> None:
    assert Settings() == Settings(scale="50k") == Settings(scale="50k", **SCALES["50k"])
    assert load_shop(Settings()).name == "shop"


@pytest.mark.parametrize("scale", ["500k", "5m", "50m"])
def test_a_scale_fills_in_what_is_not_set_and_names_a_shop_of_its_own(
    scale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_SCALE", scale)
    monkeypatch.setenv("SHOP_USERS", "")  # as make exports what nobody set
    monkeypatch.setenv("SHOP_PRODUCTS", "7")
    settings = load_settings()
    wanted = SCALES[settings.scale] | {"products": 7}
    assert {name: getattr(settings, name) for name in wanted} == wanted
    shop = load_shop(settings)
    assert shop.name == f"shop_{scale}"
    assert shop.index_prefix == f"shop_{scale}_"


def test_an_unknown_scale_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SCALE", "5x")
    with pytest.raises(SettingsError, match=r"SHOP_SCALE: .*'50k', '500k', '5m' or '50m'"):
        load_settings()


def test_the_home_follows_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert load_settings().home == tmp_path / name / ".shop"


def test_users_are_estimated_by_spark_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_ACTIVE_USERS", "sketch")
    with pytest.raises(SettingsError, match=r"SHOP_ACTIVE_USERS: .*needs ENGINE=spark"):
        load_settings()
    monkeypatch.setenv("ENGINE", "spark")
    assert load_settings().active_users == "sketch"
