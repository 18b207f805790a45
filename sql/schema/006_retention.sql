-- Retention by any definition: what is published, and the summaries that it is made from.

-- The matrix of before knows no break-down: it is counted anew. The table stays, for whoever made a view of it.
DELETE FROM analytics.cohort_retention;
DELETE FROM analytics.records WHERE name = 'cohort_retention';
DELETE FROM ops.consumed WHERE consumer = 'cohort_retention';

ALTER TABLE analytics.cohort_retention
    ADD COLUMN breakdown text,
    ADD COLUMN users_unrecorded bigint NOT NULL CHECK (users_unrecorded >= 0),
    ADD COLUMN revenue numeric,
    ADD COLUMN few_users boolean NOT NULL,
    ADD CHECK (users_observed + users_unrecorded <= cohort_size),
    DROP CONSTRAINT cohort_retention_pkey,
    ADD UNIQUE NULLS NOT DISTINCT (breakdown, cohort, period);
COMMENT ON TABLE analytics.cohort_retention IS
    'One row a cell. A cell in which nobody could be observed has users_observed 0 and no rate: nobody has lived '
    'through it yet, or (users_unrecorded) the shop recorded nothing in it.';
COMMENT ON COLUMN analytics.cohort_retention.breakdown IS 'The group of users; null for all of them.';
COMMENT ON COLUMN analytics.cohort_retention.few_users IS 'Fewer users are observed than SHOP_RETENTION_LEAST_USERS.';

CREATE TABLE analytics.pooled_retention (
    breakdown      text,
    period         smallint NOT NULL CHECK (period >= 0),
    cohorts        bigint NOT NULL CHECK (cohorts >= 0),
    users_observed bigint NOT NULL CHECK (users_observed >= 0),
    active_users   bigint CHECK (active_users BETWEEN 0 AND users_observed),
    rate           double precision CHECK (rate BETWEEN 0 AND 1),
    rate_low       double precision,
    rate_high      double precision,
    revenue        numeric,
    UNIQUE NULLS NOT DISTINCT (breakdown, period)
);
COMMENT ON TABLE analytics.pooled_retention IS 'All cohorts together: one row a period, each cohort weighted by its users.';

-- What a user's periods are counted by. The first day of the calendar period that holds a day; `week_start` is the
-- number of days from Monday to the first day of a week.
CREATE FUNCTION analytics.first_day(day date, unit text, week_start integer) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE unit
    WHEN 'day' THEN day
    WHEN 'week' THEN day - (extract(isodow FROM day)::integer - 1 - week_start + 7) % 7
    ELSE date_trunc(unit, day::timestamp)::date
END;

-- The moment at which period `number` of a user begins, by the session's calendar, which is the shop's.
CREATE FUNCTION analytics.period_start(
    started_at timestamptz, number integer, anchor text, cohort text, unit text, week_start integer
) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE anchor
    WHEN 'user' THEN
        started_at + make_interval(
            months => CASE unit WHEN 'month' THEN number ELSE 0 END,
            days => CASE unit WHEN 'week' THEN 7 * number WHEN 'day' THEN number ELSE 0 END
        )
    ELSE
        (analytics.first_day(
            CASE anchor
                WHEN 'cohort' THEN analytics.first_day(started_at::date, cohort, week_start)
                ELSE started_at::date
            END,
            unit, week_start
        ) + make_interval(
            months => CASE unit WHEN 'month' THEN number ELSE 0 END,
            days => CASE unit WHEN 'week' THEN 7 * number WHEN 'day' THEN number ELSE 0 END
        ))::timestamptz
END;

-- One row a user who is in a cohort: what sql/retention/user_periods.sql gives.
CREATE TABLE analytics.retention_users (
    user_id        text COLLATE "C" PRIMARY KEY,
    started_at     timestamptz NOT NULL,
    started_on     date NOT NULL,
    breakdown      text NOT NULL,
    active_periods bigint NOT NULL,
    revenue        jsonb,
    early_events   bigint NOT NULL CHECK (early_events >= 0)
);
COMMENT ON COLUMN analytics.retention_users.active_periods IS 'Bit p, of value 2 ^ p, is set where the user is active in period p.';
COMMENT ON COLUMN analytics.retention_users.revenue IS 'By number of the period; null where revenue is not counted.';
COMMENT ON COLUMN analytics.retention_users.early_events IS 'Events before the signup, which count nowhere.';
CREATE INDEX retention_users_started_on ON analytics.retention_users (started_on);
CREATE INDEX retention_users_early ON analytics.retention_users (early_events) WHERE early_events > 0;

-- The same, summed up by the day of the start: the periods of one day's users begin and end together, to a day.
CREATE TABLE analytics.retention_days (
    started_on   date NOT NULL,
    breakdown    text NOT NULL,
    period       smallint NOT NULL,
    users        bigint NOT NULL CHECK (users > 0),
    active_users bigint NOT NULL CHECK (active_users BETWEEN 0 AND users),
    revenue      numeric NOT NULL CHECK (revenue >= 0),
    PRIMARY KEY (started_on, breakdown, period)
);

-- When anything was recorded at all: the first and the last event of every six hours that have one.
CREATE TABLE analytics.recorded_hours (
    slot     timestamptz PRIMARY KEY,
    events   bigint NOT NULL CHECK (events > 0),
    first_at timestamptz NOT NULL,
    last_at  timestamptz NOT NULL
);

-- How the summaries were built: by another definition they are other summaries. No row, no usable summaries.
CREATE TABLE ops.retention_basis (
    definition jsonb NOT NULL,
    built_at   timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX one_retention_basis ON ops.retention_basis ((true));

-- What changed since: rows of `events` that came (sign 1) or went (sign -1), by user and six hours; users, and products
-- whose purchases count for something else now. A row with nothing in it says that changes were not noted one by one.
CREATE TABLE ops.retention_log (
    sign       smallint CHECK (sign IN (-1, 1)),
    user_id    text COLLATE "C",
    product_id text COLLATE "C",
    slot       timestamptz,
    events     bigint,
    first_at   timestamptz,
    last_at    timestamptz
);

-- Runs as the owner of the log, so that whoever may write events need not be granted anything in `ops`.
CREATE FUNCTION ops.log_retention() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = ops, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO retention_log DEFAULT VALUES;
        RETURN NULL;
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        INSERT INTO retention_log (sign, user_id, slot, events, first_at, last_at)
        SELECT -1, user_id, date_bin('6 hours', timestamp, '2000-01-01 00:00+00'), count(*), min(timestamp), max(timestamp)
        FROM old_rows WHERE isfinite(timestamp) GROUP BY 2, 3;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO retention_log (sign, user_id, slot, events, first_at, last_at)
        SELECT 1, user_id, date_bin('6 hours', timestamp, '2000-01-01 00:00+00'), count(*), min(timestamp), max(timestamp)
        FROM new_rows WHERE isfinite(timestamp) GROUP BY 2, 3;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER log_inserted_retention AFTER INSERT ON events
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_retention();
CREATE TRIGGER log_updated_retention AFTER UPDATE ON events
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_retention();
CREATE TRIGGER log_deleted_retention AFTER DELETE ON events
REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_retention();
CREATE TRIGGER log_truncated_retention AFTER TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION ops.log_retention();

-- Users who come, go or change: the sensors see it as a change of the events.
CREATE FUNCTION ops.log_users() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = ops, pg_temp AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO retention_log DEFAULT VALUES;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO retention_log (user_id) SELECT user_id FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO retention_log (user_id) SELECT user_id FROM old_rows;
    ELSE
        INSERT INTO retention_log (user_id) SELECT user_id FROM new_rows UNION SELECT user_id FROM old_rows;
    END IF;
    IF FOUND THEN
        INSERT INTO event_changes (operation) VALUES ('USERS');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER log_inserted_users AFTER INSERT ON users
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_users();
CREATE TRIGGER log_updated_users AFTER UPDATE ON users
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_users();
CREATE TRIGGER log_deleted_users AFTER DELETE ON users
REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_users();
CREATE TRIGGER log_truncated_users AFTER TRUNCATE ON users
FOR EACH STATEMENT EXECUTE FUNCTION ops.log_users();

-- A new price or category changes what a user's purchases count for.
CREATE FUNCTION ops.log_retention_products() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = ops, pg_temp AS $$
BEGIN
    INSERT INTO retention_log (product_id)
    SELECT product_id
    FROM old_rows JOIN new_rows USING (product_id)
    WHERE (old_rows.price, old_rows.category) IS DISTINCT FROM (new_rows.price, new_rows.category);
    RETURN NULL;
END
$$;

CREATE TRIGGER log_retention_products AFTER UPDATE ON products
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ops.log_retention_products();
