-- Weekly active users, from the summary table: the same answer as weekly_active_users.
-- Parameters: none. Reads weekly_active_users in the search path: SET search_path TO analytics.
-- Columns: week (timestamptz, the week's first moment), active_users (bigint). One row a week that has events.
SELECT
    week,
    active_users
FROM weekly_active_users
ORDER BY week;
