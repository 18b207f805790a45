"""What people see and do, on a small shop: the report and Dagster's UI in Chromium, new data, planted faults."""
