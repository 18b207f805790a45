-- Fills retention_users with all users who are in a cohort.
-- Parameters: as of user_periods.sql.
INSERT INTO analytics.retention_users (
    user_id, started_at, started_on, breakdown, active_periods, revenue, early_events
)
/* user_periods */
