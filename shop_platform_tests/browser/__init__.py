"""What people see, in Chromium: the report, and Dagster's UI."""
