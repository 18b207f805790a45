-- Fills retention_days from retention_users.
-- Parameters: periods.
WITH periods AS (
    SELECT 1 AS sign, * FROM analytics.retention_users
)
INSERT INTO analytics.retention_days (started_on, breakdown, period, users, active_users, revenue)
/* days */
