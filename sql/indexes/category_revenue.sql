-- Fills category_revenue: purchases and what they brought in, by day and category, at the products' present prices.
-- Days are cut in the session's time zone. Joins before it adds up: a product can change its category or price.
DELETE FROM category_revenue;
INSERT INTO category_revenue (day, category, revenue, purchases)
SELECT
    timestamp::date,
    category,
    SUM(price),
    COUNT(*)
FROM events
JOIN products USING (product_id)
WHERE event_type = 'purchased'
GROUP BY timestamp::date, category;
