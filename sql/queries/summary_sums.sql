-- Summary sums: rows of the summary tables, and what they must agree on.
-- Parameters: none. Reads the summary tables in the search path: SET search_path TO analytics.
-- Columns, all bigint: rows of weekly_activity (as the active users of all weeks), weekly_active_users, product_sales,
-- category_revenue, category_totals; then purchases by product_sales, category_revenue and category_totals.
SELECT
    (SELECT COALESCE(SUM(active_users), 0) FROM weekly_active_users) AS weekly_activity,
    (SELECT COUNT(*) FROM weekly_active_users) AS weekly_active_users,
    sales.rows AS product_sales,
    revenue.rows AS category_revenue,
    totals.rows AS category_totals,
    sales.purchases AS purchases_by_product,
    revenue.purchases AS purchases_by_day,
    totals.purchases AS purchases_in_total
FROM (SELECT COUNT(*) AS rows, COALESCE(SUM(purchases), 0) AS purchases FROM product_sales) AS sales
CROSS JOIN (SELECT COUNT(*) AS rows, COALESCE(SUM(purchases), 0) AS purchases FROM category_revenue) AS revenue
CROSS JOIN (SELECT COUNT(*) AS rows, COALESCE(SUM(purchases), 0) AS purchases FROM category_totals) AS totals;
