-- What the summaries need to take in changes of the events one by one, whenever and in whatever order they come.

-- Each row that was added to (sign 1) or taken from (sign -1) `events`, noted in the transaction that did it, and
-- removed in the transaction that applies it to the summaries: so every change is applied once, however late its time
-- and its commit. A row of sign 0 says that changes were not noted one by one: the summaries are then built anew.
CREATE TABLE ops.event_log (
    sign       smallint NOT NULL CHECK (sign BETWEEN -1 AND 1),
    user_id    text COLLATE "C",
    product_id text COLLATE "C",
    timestamp  timestamptz
);
COMMENT ON COLUMN ops.event_log.product_id IS 'Of a purchase; null for any other event.';

-- Products that went, or whose price or category changed, since the summaries took it in: with each category that the
-- summaries may count their purchases in.
CREATE TABLE ops.product_log (
    product_id text COLLATE "C" NOT NULL,
    category   text NOT NULL
);

-- Runs as the owner of the logs, so that whoever may write events need not be granted anything in `ops`.
CREATE FUNCTION ops.log_events() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = ops, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO event_log (sign) VALUES (0);
        RETURN NULL;
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        INSERT INTO event_log (sign, user_id, product_id, timestamp)
        SELECT -1, user_id, CASE WHEN event_type = 'purchased' THEN product_id END, timestamp FROM old_rows;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO event_log (sign, user_id, product_id, timestamp)
        SELECT 1, user_id, CASE WHEN event_type = 'purchased' THEN product_id END, timestamp FROM new_rows;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER log_inserted_events AFTER INSERT ON events
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_events();
CREATE TRIGGER log_updated_events AFTER UPDATE ON events
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_events();
CREATE TRIGGER log_deleted_events AFTER DELETE ON events
REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_events();
CREATE TRIGGER log_truncated_events AFTER TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION ops.log_events();

-- A new price or category changes what old purchases count for: the sensors see it as a change of the events.
CREATE FUNCTION ops.log_products() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = ops, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO product_log (product_id, category) SELECT product_id, category FROM old_rows;
        RETURN NULL;
    END IF;
    INSERT INTO product_log (product_id, category)
    SELECT product_id, unnest(ARRAY[old_rows.category, new_rows.category])
    FROM old_rows JOIN new_rows USING (product_id)
    WHERE (old_rows.price, old_rows.category) IS DISTINCT FROM (new_rows.price, new_rows.category);
    IF FOUND THEN
        INSERT INTO event_changes (operation) VALUES ('PRODUCTS');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER log_updated_products AFTER UPDATE ON products
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_products();
CREATE TRIGGER log_deleted_products AFTER DELETE ON products
REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_products();

-- How the summaries were built: in another time zone they are other summaries. No row, no usable summaries.
CREATE TABLE ops.summary_basis (
    time_zone text NOT NULL,
    built_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX one_summary_basis ON ops.summary_basis ((true));

-- Ranges of time in a table that grows by time: lets a check look at single weeks, at next to no cost to writers.
CREATE INDEX brin_events_timestamp ON events USING brin (timestamp) WITH (pages_per_range = 32, autosummarize = on);

-- With the number of events, a deleted event tells whether its user was active in the week without it. The rows of
-- before have no number: they are built anew.
TRUNCATE analytics.weekly_activity, analytics.weekly_active_users, analytics.category_revenue;
DELETE FROM ops.consumed WHERE consumer = 'activity_summaries';
ALTER TABLE analytics.weekly_activity ADD COLUMN events bigint NOT NULL CHECK (events > 0);

CREATE TABLE analytics.product_sales (
    day        date NOT NULL,
    product_id text COLLATE "C" NOT NULL,
    purchases  bigint NOT NULL CHECK (purchases > 0),
    PRIMARY KEY (day, product_id)
);
COMMENT ON TABLE analytics.product_sales IS
    'One row for each day, in the shop''s time zone, and product with purchases. Independent of prices.';

CREATE TABLE analytics.category_totals (
    category  text PRIMARY KEY,
    revenue   numeric NOT NULL CHECK (revenue >= 0),
    purchases bigint NOT NULL CHECK (purchases > 0)
);
COMMENT ON TABLE analytics.category_totals IS
    'One row a category with purchases: category_revenue over all days.';
