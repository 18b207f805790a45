-- Segments: what each rests on, who searches for what, what a query says by itself, and the models that tell it.

ALTER TABLE analytics.user_segments
    ADD COLUMN documents bigint NOT NULL DEFAULT 0 CHECK (documents >= 0),
    ADD COLUMN provisional boolean NOT NULL GENERATED ALWAYS AS (distinct_queries < 3) STORED;
COMMENT ON COLUMN analytics.user_segments.confidence IS 'Probability of the segment, given all that the user searched for.';
COMMENT ON COLUMN analytics.user_segments.documents IS 'Search logs of the user.';
COMMENT ON COLUMN analytics.user_segments.provisional IS 'Fewer than three distinct queries: another one may change it.';

-- Queries are known by the ids of their embeddings; their words stay in Elasticsearch.
CREATE TABLE analytics.user_queries (
    user_id  text COLLATE "C" NOT NULL,
    query_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, query_id)
);
COMMENT ON TABLE analytics.user_queries IS 'Who searched for which distinct query.';
CREATE INDEX user_queries_query ON analytics.user_queries (query_id);

CREATE TABLE analytics.query_segments (
    query_id   text COLLATE "C" PRIMARY KEY,
    segment    text NOT NULL,
    confidence double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1)
);
COMMENT ON TABLE analytics.query_segments IS 'What each distinct query looks like by itself.';

CREATE TABLE ops.segment_models (
    version  text PRIMARY KEY,
    made_at  timestamptz NOT NULL DEFAULT now(),
    artefact bytea NOT NULL
);
COMMENT ON TABLE ops.segment_models IS 'Models of the segments, as safetensors; the version is the SHA-256 of the bytes.';
