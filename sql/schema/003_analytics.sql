-- What the platform publishes: summaries, measurements, retention, segments.

CREATE SCHEMA analytics;

-- One row an asset that measures or computes something which others compare: the full record with its provenance.
CREATE TABLE analytics.records (
    name       text PRIMARY KEY,
    run_id     text NOT NULL,
    record     jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE analytics.cohort_retention (
    cohort         date NOT NULL,
    period         smallint NOT NULL CHECK (period >= 0),
    cohort_size    bigint NOT NULL CHECK (cohort_size > 0),
    users_observed bigint NOT NULL CHECK (users_observed BETWEEN 0 AND cohort_size),
    active_users   bigint CHECK (active_users BETWEEN 0 AND users_observed),
    rate           double precision CHECK (rate BETWEEN 0 AND 1),
    rate_low       double precision,
    rate_high      double precision,
    PRIMARY KEY (cohort, period),
    CHECK ((users_observed = 0) = (rate IS NULL))
);
COMMENT ON TABLE analytics.cohort_retention IS
    'One row a cell. A cell that no user of the cohort has lived through yet has users_observed 0 and no rate.';

CREATE TABLE analytics.user_segments (
    user_id          text COLLATE "C" PRIMARY KEY,
    segment          text NOT NULL,
    confidence       double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    distinct_queries integer NOT NULL CHECK (distinct_queries > 0),
    model            text NOT NULL
);
