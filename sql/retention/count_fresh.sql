-- Counts the users who are in a cohort, on temporary tables that hold some, into a temporary table.
-- Parameters: as of user_periods.sql.
CREATE TEMPORARY TABLE fresh ON COMMIT DROP AS
/* user_periods */
