-- Of each user who is in a cohort: since when, and in which periods active. What all retention is made from.
-- Reads users, events, products and user_segments by the search path, so that the same text does for all users and,
-- on temporary tables of these names, for a few.
-- Parameters: start, anchor, cohort, unit, week_start, periods, activity, minimum, measure, breakdown: as in
-- shop_platform/retention/definition.py.
-- Columns: user_id, started_at (timestamptz), started_on (date, by the session's calendar, which is the shop's),
-- breakdown (text, '' for none), active_periods (bigint, bit p is set where the user is active in period p), revenue
-- (jsonb, by period; null where it is not counted), early_events (bigint, events before the signup, which count nowhere).
WITH firsts AS (
    SELECT user_id, min(timestamp) AS first_at
    FROM events JOIN users USING (user_id)
    WHERE %(start)s::text <> 'signup' AND event_type = %(start)s AND timestamp >= signup_date AND isfinite(timestamp)
    GROUP BY user_id
),
begun AS (
    SELECT
        users.user_id,
        signup_date,
        CASE WHEN %(start)s = 'signup' THEN signup_date ELSE first_at END AS started_at,
        to_jsonb(users) ->> nullif(%(breakdown)s::text, '') AS attribute
    FROM users LEFT JOIN firsts USING (user_id)
    WHERE isfinite(signup_date) AND (%(start)s = 'signup' OR first_at IS NOT NULL)
),
starts AS MATERIALIZED (
    SELECT
        *,
        -- The moments at which the user's periods begin, and the one at which the last of them ends.
        ARRAY(
            SELECT analytics.period_start(
                started_at, number, %(anchor)s::text, %(cohort)s::text, %(unit)s::text, %(week_start)s::integer
            )
            FROM generate_series(0, %(periods)s::integer) AS number
            ORDER BY number
        ) AS bounds
    FROM begun
),
-- Events by user and place: 0 before the signup, p + 1 in period p, periods + 1 after the last.
counted AS NOT MATERIALIZED (
    SELECT
        user_id,
        CASE WHEN timestamp < signup_date THEN 0 ELSE width_bucket(timestamp, bounds) END AS place,
        count(*) AS events,
        sum(price) AS revenue
    FROM events
    JOIN starts USING (user_id)
    LEFT JOIN products ON %(measure)s::text = 'revenue' AND products.product_id = events.product_id
    WHERE
        isfinite(timestamp)
        AND (
            timestamp < signup_date
            OR timestamp >= started_at
            AND (%(activity)s::text = 'any' OR event_type = %(activity)s)
            AND (%(measure)s = 'unbounded' OR timestamp < bounds[%(periods)s + 1])
        )
    GROUP BY user_id, place
),
-- From the last place on, how many events there are at a place or later.
since AS (
    SELECT user_id, place, events, sum(events) OVER (PARTITION BY user_id ORDER BY place DESC) AS events_since
    FROM counted
    WHERE %(measure)s = 'unbounded'
),
lives AS (
    SELECT
        user_id,
        bit_or(1::bigint << (place - 1)) FILTER (WHERE place > 0 AND events >= %(minimum)s::bigint) AS active_periods,
        CASE WHEN %(measure)s = 'revenue' THEN
            jsonb_object_agg(place - 1, revenue) FILTER (WHERE place > 0 AND revenue <> 0)
        END AS revenue,
        sum(events) FILTER (WHERE place = 0) AS early_events
    FROM counted
    WHERE %(measure)s <> 'unbounded'
    GROUP BY user_id
    UNION ALL
    SELECT
        user_id,
        (1::bigint << least(coalesce(max(place) FILTER (WHERE place > 0 AND events_since >= %(minimum)s), 0), %(periods)s)) - 1,
        NULL,
        sum(events) FILTER (WHERE place = 0)
    FROM since
    GROUP BY user_id
),
categories AS (
    SELECT DISTINCT ON (user_id) user_id, category
    FROM events
    JOIN starts USING (user_id)
    JOIN products USING (product_id)
    WHERE %(breakdown)s = 'category' AND timestamp >= started_at AND isfinite(timestamp)
    ORDER BY user_id, timestamp, event_id
)
SELECT
    starts.user_id,
    started_at,
    started_at::date AS started_on,
    CASE %(breakdown)s
        WHEN '' THEN ''
        WHEN 'category' THEN coalesce(category, '(none)')
        WHEN 'segment' THEN coalesce(segment, '(none)')
        ELSE coalesce(nullif(attribute, ''), '(none)')
    END AS breakdown,
    coalesce(active_periods, 0) AS active_periods,
    CASE WHEN %(measure)s = 'revenue' THEN coalesce(revenue, '{}') END AS revenue,
    coalesce(early_events, 0)::bigint AS early_events
FROM starts
LEFT JOIN lives ON lives.user_id = starts.user_id
LEFT JOIN categories ON categories.user_id = starts.user_id
LEFT JOIN user_segments ON %(breakdown)s = 'segment' AND user_segments.user_id = starts.user_id
