"""shop_platform: a data platform for an online shop, as Dagster assets over PostgreSQL and Elasticsearch."""
