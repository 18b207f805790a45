"""What the platform found, for machines (`results`) and for people (the report's page)."""
