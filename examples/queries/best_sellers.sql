-- Best sellers: which products were purchased most often in a stretch of time?
-- Parameter: since = 2025-11-01
-- Parameter: until = 2025-12-01
-- Columns: product_id, name (text), purchases (bigint). Ten rows.
SELECT
    product_id,
    name,
    COUNT(*) AS purchases
FROM events
JOIN products USING (product_id)
WHERE event_type = 'purchased' AND timestamp >= %(since)s AND timestamp < %(until)s
GROUP BY product_id, name
ORDER BY purchases DESC, product_id
LIMIT 10;
