"""Dagster resources: the only doors from assets to PostgreSQL, Elasticsearch and the encoder."""
