-- All users of the summaries: to see whether the summaries agree with the events everywhere.
-- Parameters: none.
-- Columns: user_id.
CREATE TEMPORARY TABLE touched ON COMMIT DROP AS
SELECT user_id
FROM analytics.retention_users
