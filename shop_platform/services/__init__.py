"""The embedded PostgreSQL and Elasticsearch: start, find and stop them; or where the user's own servers are."""
