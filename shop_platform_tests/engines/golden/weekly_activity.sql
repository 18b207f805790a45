SELECT
  DATE_TRUNC('WEEK', timestamp),
  user_id,
  COUNT(*)
FROM events
GROUP BY
  DATE_TRUNC('WEEK', timestamp),
  user_id
