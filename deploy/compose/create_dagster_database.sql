-- Dagster's runs and events live in a database of their own, beside the shop's.
CREATE DATABASE dagster;
