-- Dashboard rows: how many rows must the two dashboard queries return? Counted in another way than they count.
-- Parameters: none. Weeks start on Monday, in the session's time zone.
-- Columns: weekly_active_users (bigint, weeks that have events), revenue_by_category (bigint, categories that have
-- purchases).
SELECT
    (
        SELECT COUNT(*)
        FROM (SELECT DISTINCT timestamp::date - EXTRACT(ISODOW FROM timestamp)::integer FROM events) AS weeks
    ) AS weekly_active_users,
    (
        SELECT COUNT(DISTINCT category)
        FROM products
        WHERE product_id IN (SELECT product_id FROM events WHERE event_type = 'purchased')
    ) AS revenue_by_category;
