-- Takes the users in `fresh` in place of those of before, of whom `touched` holds the ids.
-- Parameters: periods.
WITH periods AS (
    SELECT -1 AS sign, retention_users.* FROM analytics.retention_users JOIN touched USING (user_id)
    UNION ALL
    SELECT 1, fresh.* FROM fresh
),
moved AS (
    SELECT * FROM (
/* days */
    ) AS sums
    WHERE (users, active_users, revenue) <> (0, 0, 0)
)
MERGE INTO analytics.retention_days AS days
USING moved
ON days.started_on = moved.started_on AND days.breakdown = moved.breakdown AND days.period = moved.period
WHEN MATCHED AND days.users + moved.users = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET
    users = days.users + moved.users,
    active_users = days.active_users + moved.active_users,
    revenue = days.revenue + moved.revenue
WHEN NOT MATCHED THEN INSERT (started_on, breakdown, period, users, active_users, revenue)
    VALUES (moved.started_on, moved.breakdown, moved.period, moved.users, moved.active_users, moved.revenue)
