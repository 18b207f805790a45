-- What `periods` holds, a row a user as user_periods.sql gives it with its sign, summed up by day, break-down and period.
-- Parameters: periods.
SELECT
    started_on,
    breakdown,
    period,
    sum(sign) AS users,
    sum(sign * ((active_periods >> period) & 1)) AS active_users,
    coalesce(sum(sign * (revenue ->> period::text)::numeric), 0) AS revenue
FROM periods CROSS JOIN generate_series(0, %(periods)s::integer - 1) AS period
GROUP BY started_on, breakdown, period
