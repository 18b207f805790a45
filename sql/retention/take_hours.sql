-- Takes the changes in `noted` into recorded_hours. Hours from which an event went are looked up again in the events.
DELETE FROM analytics.recorded_hours WHERE slot IN (SELECT slot FROM noted WHERE sign = -1);
INSERT INTO analytics.recorded_hours (slot, events, first_at, last_at)
SELECT slot, count(*), min(timestamp), max(timestamp)
FROM (SELECT DISTINCT slot FROM noted WHERE sign = -1) AS gone
JOIN public.events ON timestamp >= slot AND timestamp < slot + interval '6 hours'
GROUP BY slot;

MERGE INTO analytics.recorded_hours AS hours
USING (
    SELECT slot, sum(events) AS events, min(first_at) AS first_at, max(last_at) AS last_at
    FROM noted
    WHERE sign = 1 AND slot NOT IN (SELECT slot FROM noted WHERE sign = -1)
    GROUP BY slot
) AS new
ON hours.slot = new.slot
WHEN MATCHED THEN UPDATE SET
    events = hours.events + new.events,
    first_at = least(hours.first_at, new.first_at),
    last_at = greatest(hours.last_at, new.last_at)
WHEN NOT MATCHED THEN INSERT (slot, events, first_at, last_at) VALUES (slot, events, first_at, last_at);
