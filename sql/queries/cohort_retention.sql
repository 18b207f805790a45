-- Of the users who signed up in a month, how many are active in each following period of seven days.
-- Parameters: periods (how many, the first is 0), days (days a period).
-- Columns: cohort (date, first day of the month), period (int), cohort_size, users_observed, active_users (bigint).
-- Period p of a user runs from `signup + p * days` until before `signup + (p + 1) * days`, reckoned by the session's
-- calendar, which is the shop's: it begins at the hour of the signup, whatever the clock did in between, and no week
-- number is ever subtracted.
-- A user counts in a cell once the data reach the end of the user's period: until then nobody knows. The data end with
-- the latest event. A signup at infinity is in no cohort.
WITH data AS (
    SELECT max(timestamp) AS until FROM events WHERE isfinite(timestamp)
),
signups AS MATERIALIZED (
    SELECT
        user_id,
        date_trunc('month', signup_date)::date AS cohort,
        -- The moments at which the user's periods begin, and the one at which the last of them ends.
        ARRAY(
            SELECT signup_date + make_interval(days => p * %(days)s) FROM generate_series(0, %(periods)s) AS p ORDER BY p
        ) AS bounds
    FROM users
    WHERE isfinite(signup_date)
),
active AS (
    SELECT DISTINCT events.user_id, width_bucket(events.timestamp, signups.bounds) - 1 AS period
    FROM events JOIN signups USING (user_id)
    WHERE events.timestamp >= signups.bounds[1] AND events.timestamp < signups.bounds[%(periods)s + 1]
),
lives AS (
    SELECT
        signups.cohort,
        period,
        coalesce(signups.bounds[period + 2] <= data.until, FALSE) AS observed,
        active.user_id IS NOT NULL AS active
    FROM signups
    CROSS JOIN data
    CROSS JOIN generate_series(0, %(periods)s - 1) AS period
    LEFT JOIN active USING (user_id, period)
)
SELECT
    cohort,
    period,
    count(*) AS cohort_size,
    count(*) FILTER (WHERE observed) AS users_observed,
    count(*) FILTER (WHERE observed AND active) AS active_users
FROM lives
GROUP BY cohort, period
ORDER BY cohort, period;
