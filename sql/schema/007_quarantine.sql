-- Rows that break the contract, and what a changed source is compared with.

-- Rows of the source that were not loaded because they can't be, as the source gives them. Personal data may be among
-- them. A load replaces those of the load before.
CREATE TABLE ops.quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name    text NOT NULL,
    refused       boolean NOT NULL DEFAULT false,
    reason        text NOT NULL,
    origin        text,
    row           jsonb NOT NULL,
    loaded_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX quarantine_table_name ON ops.quarantine (table_name);
COMMENT ON COLUMN ops.quarantine.table_name IS 'users, products, events or user_logs.';
COMMENT ON COLUMN ops.quarantine.refused IS
    'Whether so many rows were quarantined that nothing of that load was taken: the table then holds what it held.';
COMMENT ON COLUMN ops.quarantine.origin IS 'File and line, or as much of that as can be told.';

ALTER TABLE ops.loads
    ADD COLUMN quarantined jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN kept        bigint NOT NULL DEFAULT 0 CHECK (kept >= 0),
    ADD COLUMN ids         int8multirange;
COMMENT ON COLUMN ops.loads.left_out IS 'Rows that the mapping leaves out on purpose, counted by reason.';
COMMENT ON COLUMN ops.loads.quarantined IS 'Rows in ops.quarantine, counted by reason.';
COMMENT ON COLUMN ops.loads.kept IS 'Rows that vanished from the source and stay because rows of others refer to them.';
COMMENT ON COLUMN ops.loads.ids IS 'Of events: ids of the rows that the source gave. All others came from somebody else.';
COMMENT ON COLUMN ops.loads.last_id IS 'Highest event_id that the source gave. ids tells which rows are the source''s.';

UPDATE ops.loads SET ids = int8multirange(int8range(1, last_id, '[]'))
WHERE table_name = 'events' AND last_id IS NOT NULL AND rows_loaded > 0;
UPDATE ops.loads SET ids = '{}' WHERE table_name = 'events' AND ids IS NULL;

-- Keys of the users and products that the source gave. All others came from somebody else.
CREATE TABLE ops.loaded_keys (
    table_name text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    PRIMARY KEY (table_name, key)
);
-- Where somebody had added rows to those of a load before this version, nobody can tell which: all are kept.
INSERT INTO ops.loaded_keys (table_name, key)
SELECT 'users', user_id FROM users
WHERE (SELECT count(*) FROM users) = (SELECT rows_loaded FROM ops.loads WHERE table_name = 'users');
INSERT INTO ops.loaded_keys (table_name, key)
SELECT 'products', product_id FROM products
WHERE (SELECT count(*) FROM products) = (SELECT rows_loaded FROM ops.loads WHERE table_name = 'products');

-- The source as it was when it was loaded: what the sensor compares, and what it was made of.
CREATE TABLE ops.sources (
    part      text PRIMARY KEY,
    shop      text NOT NULL,
    state     text NOT NULL,
    manifest  jsonb NOT NULL DEFAULT '{}',
    loaded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN ops.sources.part IS 'commerce for users, products and events; user_logs.';
COMMENT ON COLUMN ops.sources.manifest IS 'Size and hash of each file, by the name of its table and its own.';
