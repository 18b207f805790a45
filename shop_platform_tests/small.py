"""The environment of a shop that is small enough for a test to run its whole demo."""

SMALL = {
    "SHOP_USERS": "120",
    "SHOP_EVENTS": "4000",
    "SHOP_SEARCHES": "900",
    "SHOP_MEASURE_SECONDS": "0.5",
    "SHOP_ELASTICSEARCH_HEAP": "512m",
}
