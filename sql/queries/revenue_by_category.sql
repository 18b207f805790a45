-- Revenue by category: what have purchases brought in, by category of product?
-- Parameters: none. A purchase counts with the product's present price.
-- Columns: category (text), revenue (numeric, in the shop's currency). One row a category that has purchases.
SELECT
    category,
    SUM(price) AS revenue
FROM events
JOIN products USING (product_id)
WHERE event_type = 'purchased'
GROUP BY category
ORDER BY revenue DESC, category;
