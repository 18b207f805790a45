-- Fills weekly_activity: who was active in which week. Weeks start on Monday, in the session's time zone.
-- Reads events and writes the table, both by the search path, so that live tables and copies use the same text.
DELETE FROM weekly_activity;
INSERT INTO weekly_activity (week, user_id, events)
SELECT
    DATE_TRUNC('week', timestamp),
    user_id,
    COUNT(*)
FROM events
GROUP BY DATE_TRUNC('week', timestamp), user_id;
