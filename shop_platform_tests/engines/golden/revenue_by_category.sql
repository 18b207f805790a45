SELECT
  category,
  SUM(price) AS revenue
FROM events
JOIN products
  USING (product_id)
WHERE
  event_type = 'purchased'
GROUP BY
  category
ORDER BY
  revenue DESC NULLS FIRST,
  category NULLS LAST
