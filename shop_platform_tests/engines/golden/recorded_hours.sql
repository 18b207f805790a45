SELECT
  TIMESTAMP_SECONDS(UNIX_SECONDS(timestamp) - PMOD(UNIX_SECONDS(timestamp), 21600)),
  COUNT(*),
  MIN(timestamp),
  MAX(timestamp)
FROM events
WHERE
  ISNOTNULL(timestamp)
GROUP BY
  1
