-- The users of the summaries, grouped by segment: what sql/queries/cohort_retention.sql counts retention by segment from.
-- Parameters: none.
-- Columns: as of sql/retention/user_periods.sql.
SELECT
    user_id, started_at, started_on, coalesce(segment, '(none)') AS breakdown, active_periods, revenue, early_events
FROM analytics.retention_users LEFT JOIN analytics.user_segments USING (user_id)
