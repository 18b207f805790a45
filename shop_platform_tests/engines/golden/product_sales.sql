SELECT
  CAST(timestamp AS DATE),
  product_id,
  COUNT(*)
FROM events
WHERE
  event_type = 'purchased'
GROUP BY
  CAST(timestamp AS DATE),
  product_id
