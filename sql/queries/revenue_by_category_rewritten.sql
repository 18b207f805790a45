-- Revenue by category, in two steps: purchases counted by product, then priced. The same as revenue_by_category.
-- Parameters: none. A purchase counts with the product's present price.
-- Columns: category (text), revenue (numeric, in the shop's currency). One row a category that has purchases.
SELECT
    category,
    SUM(price * purchases) AS revenue
FROM (
    SELECT product_id, COUNT(*) AS purchases FROM events WHERE event_type = 'purchased' GROUP BY product_id
) AS sold
JOIN products USING (product_id)
GROUP BY category
ORDER BY revenue DESC, category;
