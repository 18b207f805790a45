-- Events of one user, in order of time. On live tables the platform builds it with CREATE INDEX CONCURRENTLY.
CREATE INDEX idx_events_user_time ON events (user_id, timestamp);
