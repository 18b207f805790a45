"""Which indexes, rewriting or table to keep would make a query faster: proposed from its text, tried on a copy."""
