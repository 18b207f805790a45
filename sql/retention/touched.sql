-- Users whose periods may have changed, by what is `noted`.
-- Parameters: measure, breakdown.
-- Columns: user_id.
CREATE TEMPORARY TABLE touched ON COMMIT DROP AS
SELECT user_id FROM noted WHERE user_id IS NOT NULL
UNION
-- Another price moves revenue, another category moves users between groups.
SELECT user_id
FROM public.events
JOIN (SELECT DISTINCT product_id FROM noted WHERE product_id IS NOT NULL) AS products USING (product_id)
WHERE %(measure)s::text = 'revenue' OR %(breakdown)s::text = 'category'
UNION
SELECT user_id
FROM analytics.retention_users LEFT JOIN analytics.user_segments USING (user_id)
WHERE %(breakdown)s = 'segment' AND breakdown <> coalesce(segment, '(none)')
