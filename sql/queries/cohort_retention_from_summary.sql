-- What cohort_retention.sql counts, from the summaries: whole days of starts at once, and user by user only those of the
-- days whose periods end about where the data do, or where the shop falls silent.
-- Parameters: cohort, anchor, unit, week_start, periods, measure, breakdown.
-- Columns: as of cohort_retention.sql.
WITH silences AS MATERIALIZED (
    SELECT after, before
    FROM (
        SELECT lag(last_at, 1, '-infinity') OVER (ORDER BY slot) AS after, first_at AS before
        FROM analytics.recorded_hours
    ) AS pairs
    WHERE after <= before - interval '12 hours'
),
data AS MATERIALIZED (
    SELECT last_at AS until FROM analytics.recorded_hours ORDER BY slot DESC LIMIT 1
),
-- Where the periods of a day's users begin and end, at the earliest and the latest. In calendar periods they all do so
-- together; else within the day, and a day more after it, for a clock that skips an hour, or a day. Before it only where
-- the clock shows midnight twice, and a user starts between.
dates AS (
    SELECT
        *,
        analytics.period_start(
            started_on::timestamptz, period, %(anchor)s::text, %(cohort)s::text, %(unit)s::text, %(week_start)s::integer
        ) AS begins,
        analytics.period_start(
            started_on::timestamptz, period + 1, %(anchor)s, %(cohort)s, %(unit)s, %(week_start)s
        ) AS ends,
        CASE WHEN %(anchor)s = 'user' THEN interval '1 day' ELSE interval '0' END AS sooner,
        CASE WHEN %(anchor)s = 'user' THEN interval '2 days' ELSE interval '0' END AS later
    FROM analytics.retention_days
),
judged AS MATERIALIZED (
    SELECT
        started_on,
        breakdown,
        period,
        users,
        active_users,
        revenue,
        until IS NOT NULL AND ends + later <= until AS all_over,
        until IS NOT NULL AND ends <= until AS some_over,
        begins >= ends
        OR EXISTS (SELECT FROM silences WHERE after < begins - sooner AND before >= ends + later) AS all_silent,
        begins >= ends
        OR EXISTS (SELECT FROM silences WHERE after < begins + later AND before >= ends) AS some_silent
    FROM dates LEFT JOIN data ON TRUE
),
-- Days of which one thing holds for all users, and users of the others, by what holds for them.
known AS (
    SELECT
        started_on, breakdown, period, users, active_users, revenue,
        all_over AS over,
        all_silent AS silent
    FROM judged
    WHERE all_over = some_over AND (all_silent = some_silent OR NOT some_over)
    UNION ALL
    SELECT
        judged.started_on,
        judged.breakdown,
        judged.period,
        1,
        (active_periods >> judged.period)::integer & 1,
        coalesce((retention_users.revenue ->> judged.period::text)::numeric, 0),
        ends <= until,
        begins >= ends OR EXISTS (SELECT FROM silences WHERE after < begins AND before >= ends)
    FROM judged
    JOIN analytics.retention_users USING (started_on, breakdown)
    CROSS JOIN data
    CROSS JOIN LATERAL (
        SELECT
            analytics.period_start(
                started_at, judged.period, %(anchor)s, %(cohort)s, %(unit)s, %(week_start)s
            ) AS begins,
            analytics.period_start(
                started_at, judged.period + 1, %(anchor)s, %(cohort)s, %(unit)s, %(week_start)s
            ) AS ends
    ) AS own
    WHERE NOT (all_over = some_over AND (all_silent = some_silent OR NOT some_over))
),
cells AS (
    SELECT *, analytics.first_day(started_on, %(cohort)s, %(week_start)s) AS cohort FROM known
)
SELECT
    CASE WHEN grouping(breakdown) = 0 THEN breakdown END AS breakdown,
    cohort,
    period::integer AS period,
    sum(users)::bigint AS cohort_size,
    coalesce(sum(users) FILTER (WHERE over AND NOT silent), 0)::bigint AS users_observed,
    coalesce(sum(users) FILTER (WHERE over AND silent), 0)::bigint AS users_unrecorded,
    coalesce(sum(active_users) FILTER (WHERE over AND NOT silent), 0)::bigint AS active_users,
    CASE WHEN %(measure)s::text = 'revenue' THEN
        coalesce(sum(revenue) FILTER (WHERE over AND NOT silent), 0)
    END AS revenue
FROM cells
GROUP BY GROUPING SETS ((cohort, period), (breakdown, cohort, period))
HAVING grouping(breakdown) = 1 OR %(breakdown)s::text <> ''
ORDER BY breakdown NULLS FIRST, cohort, period;
