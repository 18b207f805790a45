-- Summary sums: what the summary tables add up to, beside what the events give.
-- Parameters: none. Reads the summary tables in the search path: SET search_path TO analytics, public.
-- Columns, all bigint: pairs (different users, week by week, in the events), pairs_summed (in weekly_active_users),
-- purchases (in the events), purchases_summed (in category_revenue), then the rows of each summary table.
SELECT
    (
        SELECT COUNT(*)
        FROM (
            SELECT DISTINCT timestamp::date - EXTRACT(ISODOW FROM timestamp)::integer, user_id FROM events
        ) AS pairs
    ) AS pairs,
    (SELECT COALESCE(SUM(active_users), 0) FROM weekly_active_users) AS pairs_summed,
    (SELECT COUNT(*) FROM events WHERE event_type = 'purchased') AS purchases,
    (SELECT COALESCE(SUM(purchases), 0) FROM category_revenue) AS purchases_summed,
    (SELECT COUNT(*) FROM weekly_activity) AS weekly_activity,
    (SELECT COUNT(*) FROM weekly_active_users) AS weekly_active_users,
    (SELECT COUNT(*) FROM category_revenue) AS category_revenue;
