-- Of the users who signed up in a month, how many are active in each following period of seven days.
-- Parameters: periods (how many, the first is 0), days (days a period).
-- Columns: cohort (date, first day of the month), period (int), cohort_size, users_observed, active_users (bigint).
-- Period p of a user runs from `signup + p * days` until before `signup + (p + 1) * days` by the shop's wall clock: a
-- day is a day when summer time begins or ends, and no week number is ever subtracted.
-- A user counts in a cell once the data reach the end of the user's period: until then nobody knows.
-- The session's time zone is the shop's.
WITH data AS (
    SELECT max(timestamp) AT TIME ZONE current_setting('TimeZone') AS until FROM events
),
signups AS (
    SELECT
        user_id,
        signup_date,
        signup_date AT TIME ZONE current_setting('TimeZone') AS signup,
        date_trunc('month', signup_date AT TIME ZONE current_setting('TimeZone'))::date AS cohort
    FROM users
),
active AS (
    SELECT DISTINCT
        events.user_id,
        floor(
            extract(EPOCH FROM events.timestamp AT TIME ZONE current_setting('TimeZone') - signups.signup)
            / (86400 * %(days)s)
        )::int AS period
    FROM events JOIN signups USING (user_id)
    WHERE events.timestamp >= signups.signup_date
),
lives AS (
    SELECT
        signups.cohort,
        period,
        coalesce(signups.signup + make_interval(days => (period + 1) * %(days)s) <= data.until, FALSE) AS observed,
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
