-- Takes the changes in `taken` into product_sales. Notes in `touched` the days and categories whose revenue they move,
-- and those of products that went, or have another price or category.
INSERT INTO touched (day, category)
SELECT day, log.category
FROM ops.product_log AS log
JOIN product_sales USING (product_id);

DELETE FROM ops.product_log;

WITH sold AS (
    SELECT timestamp::date AS day, product_id, SUM(sign) AS moved
    FROM taken
    WHERE product_id IS NOT NULL
    GROUP BY timestamp::date, product_id
    HAVING SUM(sign) <> 0
),
merged AS (
    MERGE INTO product_sales AS sales
    USING sold ON sales.day = sold.day AND sales.product_id = sold.product_id
    WHEN MATCHED AND sales.purchases + sold.moved = 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET purchases = sales.purchases + sold.moved
    WHEN NOT MATCHED THEN INSERT (day, product_id, purchases) VALUES (sold.day, sold.product_id, sold.moved)
    RETURNING sales.day, sales.product_id
)
INSERT INTO touched (day, category)
SELECT DISTINCT day, category
FROM merged
JOIN products USING (product_id);
