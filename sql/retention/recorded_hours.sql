-- Fills recorded_hours from all events.
DELETE FROM analytics.recorded_hours;
INSERT INTO analytics.recorded_hours (slot, events, first_at, last_at)
SELECT date_bin('6 hours', timestamp, '2000-01-01 00:00+00'), count(*), min(timestamp), max(timestamp)
FROM public.events
WHERE isfinite(timestamp)
GROUP BY 1;
