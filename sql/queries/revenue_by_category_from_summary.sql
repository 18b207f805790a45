-- Revenue by category, from the summary table: the same answer as revenue_by_category, to the cent.
-- Parameters: none. Reads category_totals in the search path: SET search_path TO analytics.
-- Columns: category (text), revenue (numeric, in the shop's currency). One row a category that has purchases.
SELECT
    category,
    revenue
FROM category_totals
ORDER BY revenue DESC, category;
