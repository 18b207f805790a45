"""The command `shop-platform`: thin, it calls what the assets call and says what happened."""

from shop_platform.cli import answers, data, servers
from shop_platform.cli.app import app, main, run

__all__ = ["answers", "app", "data", "main", "run", "servers"]
