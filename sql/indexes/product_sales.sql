-- Fills product_sales: how often each product was purchased on each day, in the session's time zone.
DELETE FROM product_sales;
INSERT INTO product_sales (day, product_id, purchases)
SELECT
    timestamp::date,
    product_id,
    COUNT(*)
FROM events
WHERE event_type = 'purchased'
GROUP BY timestamp::date, product_id;
