-- Fills category_revenue from product_sales: purchases and what they brought in, by day and category, at the products'
-- present prices.
DELETE FROM category_revenue;
INSERT INTO category_revenue (day, category, revenue, purchases)
SELECT
    day,
    category,
    SUM(price * purchases),
    SUM(purchases)
FROM product_sales
JOIN products USING (product_id)
GROUP BY day, category;
