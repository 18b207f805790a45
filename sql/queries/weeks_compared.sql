-- Weeks compared: what the summaries say of a week, beside what the direct queries say of the same week.
-- Parameters: from, until (timestamptz, the first moment of the week and of the next one).
-- Columns: active_summed, active (bigint), revenue_summed, revenue (text, JSON by category and day, to the last digit),
-- estimated (boolean: active_summed is an estimate by a sketch; null without such a week).
-- Reads events and products, and the summaries in schema analytics.
WITH direct AS (
    SELECT user_id, product_id, event_type, timestamp
    FROM events
    WHERE timestamp >= %(from)s AND timestamp < %(until)s
),
days AS (
    SELECT timestamp::date AS day, category, SUM(price) AS revenue, COUNT(*) AS purchases
    FROM direct
    JOIN products USING (product_id)
    WHERE event_type = 'purchased'
    GROUP BY timestamp::date, category
),
summed AS (
    SELECT day, category, revenue, purchases
    FROM analytics.category_revenue
    WHERE day >= (%(from)s)::date AND day < (%(until)s)::date
)
SELECT
    COALESCE((SELECT active_users FROM analytics.weekly_active_users WHERE week = %(from)s), 0) AS active_summed,
    (SELECT COUNT(DISTINCT user_id) FROM direct) AS active,
    (
        SELECT COALESCE(JSON_AGG(JSON_BUILD_ARRAY(day, category, revenue, purchases) ORDER BY day, category), '[]')::text
        FROM summed
    ) AS revenue_summed,
    (
        SELECT COALESCE(JSON_AGG(JSON_BUILD_ARRAY(day, category, revenue, purchases) ORDER BY day, category), '[]')::text
        FROM days
    ) AS revenue,
    (SELECT estimated FROM analytics.weekly_active_users WHERE week = %(from)s) AS estimated
