-- Takes the changes in `taken` into weekly_activity, and what follows from it into weekly_active_users.
-- A user who was not active in the week before adds one to it, one whose last event went takes one away.
WITH pairs AS (
    SELECT DATE_TRUNC('week', timestamp) AS week, user_id, SUM(sign) AS moved
    FROM taken
    GROUP BY DATE_TRUNC('week', timestamp), user_id
    HAVING SUM(sign) <> 0
),
merged AS (
    MERGE INTO weekly_activity AS activity
    USING pairs ON activity.week = pairs.week AND activity.user_id = pairs.user_id
    WHEN MATCHED AND activity.events + pairs.moved = 0 THEN DELETE
    WHEN MATCHED THEN UPDATE SET events = activity.events + pairs.moved
    WHEN NOT MATCHED THEN INSERT (week, user_id, events) VALUES (pairs.week, pairs.user_id, pairs.moved)
    RETURNING merge_action() AS action, activity.week
),
weeks AS (
    SELECT week, COUNT(*) FILTER (WHERE action = 'INSERT') - COUNT(*) FILTER (WHERE action = 'DELETE') AS moved
    FROM merged
    WHERE action <> 'UPDATE'
    GROUP BY week
)
MERGE INTO weekly_active_users AS total
USING weeks ON total.week = weeks.week
WHEN MATCHED AND total.active_users + weeks.moved = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET active_users = total.active_users + weeks.moved
WHEN NOT MATCHED AND weeks.moved <> 0 THEN INSERT (week, active_users) VALUES (weeks.week, weeks.moved);
