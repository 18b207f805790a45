SELECT
  DATE_TRUNC('WEEK', timestamp) AS week,
  COUNT(DISTINCT user_id) AS active_users
FROM events
GROUP BY
  week
ORDER BY
  week NULLS LAST
