-- Whether a week's active users were estimated by a HyperLogLog sketch, or counted.
ALTER TABLE analytics.weekly_active_users ADD COLUMN estimated boolean NOT NULL DEFAULT false;
