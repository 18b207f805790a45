-- Summary tables that answer the dashboard's two queries. Exact: they are made from the events, never estimated.

CREATE TABLE analytics.weekly_activity (
    week    timestamptz NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (week, user_id)
);
COMMENT ON TABLE analytics.weekly_activity IS
    'One row for each week and user active in it. Weeks start on Monday, in the shop''s time zone.';

CREATE TABLE analytics.weekly_active_users (
    week         timestamptz PRIMARY KEY,
    active_users bigint NOT NULL CHECK (active_users > 0)
);
COMMENT ON TABLE analytics.weekly_active_users IS 'One row a week that has events.';

CREATE TABLE analytics.category_revenue (
    day       date NOT NULL,
    category  text NOT NULL,
    revenue   numeric NOT NULL CHECK (revenue >= 0),
    purchases bigint NOT NULL CHECK (purchases > 0),
    PRIMARY KEY (day, category)
);
COMMENT ON TABLE analytics.category_revenue IS
    'One row for each day, in the shop''s time zone, and category with purchases, at the products'' present prices.';
