"""Apache Spark as the engine of the platform: sessions, the copy of the events that it reads, and what it computes.

Nothing here is imported unless `ENGINE=spark`. SQL stays in `sql/`; `translation` gives it in Spark's dialect.
"""
