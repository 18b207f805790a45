"""For a query: which indexes, which rewriting and which summary table are worth trying, and which of them to keep."""
