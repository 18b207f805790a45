"""The shop's raw tables: users, products and events."""
