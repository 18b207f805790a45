"""Chooses the source: the synthetic shop, or data that a TOML mapping describes."""

from __future__ import annotations

from shop_platform.settings import Settings
from shop_platform.sources.base import Shop


def load_shop(settings: Settings) -> Shop:
    """The shop that the settings describe. Reads the configuration, not yet the data.

    Raises:
        SourceError: the configuration is missing or does not fit.
    """
    if settings.config is None:
        from shop_platform.sources.synthetic import synthetic_shop

        return synthetic_shop(settings)
    from shop_platform.sources.mapped import mapped_shop

    return mapped_shop(settings.config, settings)
