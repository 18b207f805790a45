-- Who asked to be forgotten: known by keyed hashes alone, so that no later load brings them back.

CREATE TABLE ops.erasure_key (
    key bytea NOT NULL CHECK (length(key) = 32)
);
CREATE UNIQUE INDEX one_erasure_key ON ops.erasure_key ((true));
-- Both from the server's source of randomness for cryptography.
INSERT INTO ops.erasure_key VALUES (sha256((gen_random_uuid()::text || gen_random_uuid()::text)::bytea));
COMMENT ON TABLE ops.erasure_key IS
    'Makes the hashes in ops.erasures useless to whoever has these alone. Lost, erased people would come back.';

CREATE TABLE ops.erasures (
    digest    bytea PRIMARY KEY CHECK (length(digest) = 32),
    mail      bytea CHECK (length(mail) = 32),
    removed   jsonb NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.erasures IS 'The record of erasures, which holds nothing of the person.';
COMMENT ON COLUMN ops.erasures.digest IS 'HMAC-SHA-256 of the user id.';
COMMENT ON COLUMN ops.erasures.mail IS 'The same of the mail address, by which quarantined rows are known.';
COMMENT ON COLUMN ops.erasures.removed IS 'How many rows and documents went, by where they were.';
