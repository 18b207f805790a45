-- Fills weekly_active_users from weekly_activity: how many users were active in each week.
DELETE FROM weekly_active_users;
INSERT INTO weekly_active_users (week, active_users)
SELECT
    week,
    COUNT(*)
FROM weekly_activity
GROUP BY week;
