-- Weekly active users, in two levels: each user once a week, then counted. The same as weekly_active_users.
-- COUNT(DISTINCT ...) sorts all events by week and user; DISTINCT may hash them, and in parallel.
-- Parameters: none. Weeks start on Monday, in the session's time zone.
-- Columns: week (timestamptz, the week's first moment), active_users (bigint). One row a week that has events.
SELECT
    week,
    COUNT(*) AS active_users
FROM (SELECT DISTINCT DATE_TRUNC('week', timestamp) AS week, user_id FROM events) AS pairs
GROUP BY week
ORDER BY week;
