-- What has been removed of ops.event_changes. The state of the events, which sensors compare, is these numbers and the
-- rows that are left together: whoever removes rows adds them here in the same transaction, so that no reader sees the
-- state move, whichever rows went and whoever has taken them in.

CREATE TABLE ops.event_changes_before (
    changes     bigint NOT NULL CHECK (changes >= 0),
    last_change bigint NOT NULL CHECK (last_change >= 0)
);
CREATE UNIQUE INDEX one_event_changes_before ON ops.event_changes_before ((true));
INSERT INTO ops.event_changes_before VALUES (0, 0);
COMMENT ON TABLE ops.event_changes_before IS 'Rows that were removed from ops.event_changes: how many, and the highest change_id.';
