-- Events of one user: what did this user do last?
-- Parameter: user_id = "u0042"
-- Columns: event_id (bigint), product_id, event_type (text), timestamp (timestamptz). At most 20 rows, the latest first.
SELECT
    event_id,
    product_id,
    event_type,
    timestamp
FROM events
WHERE user_id = %(user_id)s
ORDER BY timestamp DESC, event_id
LIMIT 20;
