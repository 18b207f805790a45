-- What a copy of the events as Parquet files, a partition a month, needs to take in changes month by month.

-- Where the copy is, if there is one: without a row nothing is noted for it.
CREATE TABLE ops.exports (
    id       uuid NOT NULL,
    location text NOT NULL
);
CREATE UNIQUE INDEX one_export ON ops.exports ((true));

-- Months, in UTC, whose events came, went or changed since they were copied; null for all of them.
CREATE TABLE ops.export_log (
    month date
);

-- As in 005_incremental_summaries.sql, with the months. No trigger of its own: a statement's rows are looked at once.
CREATE OR REPLACE FUNCTION ops.log_events() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = ops, pg_temp AS $$
DECLARE
    copied boolean := EXISTS (SELECT FROM exports);
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO event_log (sign) VALUES (0);
        IF copied THEN
            INSERT INTO export_log VALUES (NULL);
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        INSERT INTO event_log (sign, user_id, product_id, timestamp)
        SELECT -1, user_id, CASE WHEN event_type = 'purchased' THEN product_id END, timestamp FROM old_rows;
        IF copied THEN
            INSERT INTO export_log
            SELECT DISTINCT CASE WHEN isfinite(timestamp) THEN date_trunc('month', timestamp AT TIME ZONE 'UTC')::date END
            FROM old_rows;
        END IF;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO event_log (sign, user_id, product_id, timestamp)
        SELECT 1, user_id, CASE WHEN event_type = 'purchased' THEN product_id END, timestamp FROM new_rows;
        IF copied THEN
            INSERT INTO export_log
            SELECT DISTINCT CASE WHEN isfinite(timestamp) THEN date_trunc('month', timestamp AT TIME ZONE 'UTC')::date END
            FROM new_rows;
        END IF;
    END IF;
    RETURN NULL;
END
$$;
