-- Of the users of a cohort, how many are active in each period: counted from the events, without summaries.
-- The line that reads /* user_periods */ stands for the query in sql/retention/user_periods.sql.
-- Parameters: as there.
-- Columns: breakdown (text, null for all users), cohort (date), period (int), cohort_size, users_observed,
-- users_unrecorded, active_users (bigint), revenue (numeric, null where it is not counted).
-- A user counts in a cell once the data reach the end of the user's period: until then nobody knows. The data end with
-- the latest event. Where nobody did anything in the whole shop in that period, nothing was recorded, and nobody knows
-- either.
WITH lives AS MATERIALIZED (
/* user_periods */
),
recorded AS (
    SELECT min(timestamp) AS first_at, max(timestamp) AS last_at
    FROM events
    WHERE isfinite(timestamp)
    GROUP BY date_bin('6 hours', timestamp, '2000-01-01 00:00+00')
),
silences AS MATERIALIZED (
    SELECT after, before
    FROM (SELECT lag(last_at, 1, '-infinity') OVER (ORDER BY first_at) AS after, first_at AS before FROM recorded) AS pairs
    WHERE after <= before - interval '12 hours'  -- no period is shorter, whatever the clock does
),
bounded AS (
    SELECT
        lives.*,
        analytics.first_day(started_on, %(cohort)s, %(week_start)s) AS cohort,
        number,
        analytics.period_start(started_at, number, %(anchor)s, %(cohort)s, %(unit)s, %(week_start)s) AS begins,
        analytics.period_start(started_at, number + 1, %(anchor)s, %(cohort)s, %(unit)s, %(week_start)s) AS ends
    FROM lives CROSS JOIN generate_series(0, %(periods)s - 1) AS number
),
judged AS (
    SELECT
        *,
        coalesce(ends <= (SELECT max(last_at) FROM recorded), FALSE) AS over,
        begins >= ends OR EXISTS (SELECT FROM silences WHERE after < begins AND before >= ends) AS silent
    FROM bounded
)
SELECT
    CASE WHEN grouping(breakdown) = 0 THEN breakdown END AS breakdown,
    cohort,
    number AS period,
    count(*) AS cohort_size,
    count(*) FILTER (WHERE over AND NOT silent) AS users_observed,
    count(*) FILTER (WHERE over AND silent) AS users_unrecorded,
    count(*) FILTER (WHERE over AND NOT silent AND active_periods & (1::bigint << number) <> 0) AS active_users,
    CASE WHEN %(measure)s = 'revenue' THEN
        coalesce(sum((revenue ->> number::text)::numeric) FILTER (WHERE over AND NOT silent), 0)
    END AS revenue
FROM judged
GROUP BY GROUPING SETS ((cohort, number), (breakdown, cohort, number))
HAVING grouping(breakdown) = 1 OR %(breakdown)s <> ''
ORDER BY breakdown NULLS FIRST, cohort, period;
