-- Fills category_totals from category_revenue: purchases and revenue by category, over all days.
DELETE FROM category_totals;
INSERT INTO category_totals (category, revenue, purchases)
SELECT
    category,
    SUM(revenue),
    SUM(purchases)
FROM category_revenue
GROUP BY category;
