-- What the synthetic shop was drawn from. Read by tests and validation only: a truth that a model can see tests nothing.

CREATE SCHEMA truth;

CREATE TABLE truth.parameters (
    name  text PRIMARY KEY,
    value jsonb NOT NULL
);

CREATE TABLE truth.users (
    user_id text COLLATE "C" PRIMARY KEY,
    persona text NOT NULL,
    traits  jsonb NOT NULL DEFAULT '{}'
);
