-- Weekly active users: how many different users did something in each week?
-- Parameters: none. Weeks start on Monday, in the session's time zone.
-- Columns: week (timestamptz, the week's first moment), active_users (bigint). One row a week that has events.
SELECT
    DATE_TRUNC('week', timestamp) AS week,
    COUNT(DISTINCT user_id) AS active_users
FROM events
GROUP BY week
ORDER BY week;
