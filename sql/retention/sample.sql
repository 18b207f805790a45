-- Users of some days, drawn anew each time: to see whether the summaries agree with the events.
-- Parameters: none.
-- Columns: user_id.
CREATE TEMPORARY TABLE touched ON COMMIT DROP AS
SELECT user_id
FROM analytics.retention_users
WHERE started_on IN (
    SELECT started_on
    FROM (SELECT DISTINCT started_on FROM analytics.retention_days) AS days
    ORDER BY random()
    LIMIT 20
)
LIMIT 200
