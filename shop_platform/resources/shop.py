"""The shop that this run is about, and the folder for its artefacts, as a Dagster resource."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dagster import ConfigurableResource

from shop_platform.services.account import private_home
from shop_platform.settings import load_settings
from shop_platform.sources.base import Shop
from shop_platform.sources.load import load_shop
from shop_platform.sources.pseudonyms import Pseudonymised


class ShopResource(ConfigurableResource[Any]):
    """Gives the shop that `SHOP_CONFIG` describes, or the synthetic one."""

    def shop(self) -> Shop:
        """The shop, its conventions and its source, with pseudonyms where SHOP_PSEUDONYM_KEY is set.

        Raises:
            SourceError: the configuration or the data that it names is missing or unusable.
        """
        settings = load_settings()
        shop, key = load_shop(settings), settings.pseudonym_key
        return (
            shop if key is None else replace(shop, source=Pseudonymised(shop.source, key.get_secret_value().encode()))
        )

    def folder(self) -> Path:
        """Where this shop's artefacts go: `<SHOP_HOME>/shops/<name>`; made when missing."""
        folder = private_home(load_settings()) / "shops" / self.shop().name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
