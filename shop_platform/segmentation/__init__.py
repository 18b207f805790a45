"""Who searches for what: search logs, their embeddings, and the segment of each searcher."""
