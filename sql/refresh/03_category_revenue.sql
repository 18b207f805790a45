-- Sums up again the days and categories in `touched`, then the totals of these categories.
DELETE FROM category_revenue WHERE (day, category) IN (SELECT day, category FROM touched);
INSERT INTO category_revenue (day, category, revenue, purchases)
SELECT
    day,
    category,
    SUM(price * purchases),
    SUM(purchases)
FROM product_sales
JOIN products USING (product_id)
WHERE day IN (SELECT day FROM touched) AND (day, category) IN (SELECT day, category FROM touched)
GROUP BY day, category;

DELETE FROM category_totals WHERE category IN (SELECT category FROM touched);
INSERT INTO category_totals (category, revenue, purchases)
SELECT
    category,
    SUM(revenue),
    SUM(purchases)
FROM category_revenue
WHERE category IN (SELECT category FROM touched)
GROUP BY category;
