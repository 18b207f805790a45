-- What the cohorts are counted from.
-- Parameters: none.
-- Columns: users, events (bigint), data_end (timestamptz, the latest event; null where there is none), before_signup
-- (bigint, events earlier than their user's signup, which retention leaves out), in_future (bigint, events later than
-- now, from which the data's end can't be told).
SELECT
    (SELECT count(*) FROM users) AS users,
    count(*) AS events,
    max(timestamp) FILTER (WHERE isfinite(timestamp)) AS data_end,
    count(*) FILTER (WHERE timestamp < signup_date) AS before_signup,
    count(*) FILTER (WHERE timestamp > now()) AS in_future
FROM events JOIN users USING (user_id);
