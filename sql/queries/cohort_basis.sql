-- What the cohorts are counted from, by the summaries.
-- Parameters: start.
-- Columns: users (bigint, all there are), cohort_users (bigint, those who are in a cohort), events (bigint), data_end
-- (timestamptz, the latest event; null where there is none), before_signup (bigint, events of these users earlier than
-- their signup, which retention leaves out), in_future (bigint, events later than now, from which the data's end can't
-- be told).
SELECT
    (SELECT count(*) FROM public.users) AS users,
    CASE WHEN %(start)s::text = 'signup' THEN
        (SELECT count(*) FROM public.users WHERE isfinite(signup_date))
    ELSE
        (SELECT count(*) FROM analytics.retention_users)
    END AS cohort_users,
    (SELECT coalesce(sum(events), 0)::bigint FROM analytics.recorded_hours) AS events,
    (SELECT last_at FROM analytics.recorded_hours ORDER BY slot DESC LIMIT 1) AS data_end,
    (
        SELECT coalesce(sum(early_events), 0)::bigint FROM analytics.retention_users WHERE early_events > 0
    ) AS before_signup,
    (
        SELECT coalesce(sum(events), 0)::bigint FROM analytics.recorded_hours WHERE last_at > now() AND first_at > now()
    ) + (
        SELECT count(*)
        FROM analytics.recorded_hours
        JOIN public.events ON timestamp >= slot AND timestamp < slot + interval '6 hours'
        WHERE first_at <= now() AND last_at > now() AND timestamp > now()
    ) AS in_future;
