-- Loads write as shop_platform_writer, too, and sensors look as shop_platform_reader:
--   shop_platform_writer  changes rows of users, products and events, as loads do; it may neither empty these tables at
--                         once nor switch their triggers, and writes what a synthetic shop was drawn from without
--                         being able to read it
--   shop_platform_reader  reads how far the events have changed; of the changes it sees their number alone

-- Makes roles that are missing, and grants all anew; what it may not do, it leaves out. Runs as whoever calls it.
CREATE OR REPLACE FUNCTION ops.grant_roles() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    each text;
    numbers text := pg_get_serial_sequence('public.events', 'event_id');
BEGIN
    FOREACH each IN ARRAY ARRAY['shop_platform_writer', 'shop_platform_benchmark', 'shop_platform_reader'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = each) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', each);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another database was faster
        WHEN insufficient_privilege THEN
            RETURN;
        END;
        BEGIN
            IF NOT ops.may_take(each) THEN
                EXECUTE format('GRANT %I TO %I', each, session_user);
            END IF;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        WHEN insufficient_privilege THEN
            RETURN;
        END;
    END LOOP;

    BEGIN
        GRANT USAGE ON SCHEMA public, analytics, ops TO shop_platform_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA analytics, ops TO shop_platform_writer;
        REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ops.migrations FROM shop_platform_writer;
        REVOKE ALL ON ops.erasure_key, ops.erasures FROM shop_platform_writer;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA analytics, ops TO shop_platform_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE ON public.users, public.products, public.events TO shop_platform_writer;
        IF numbers IS NOT NULL THEN
            EXECUTE format('GRANT SELECT, UPDATE ON SEQUENCE %s TO shop_platform_writer', numbers);
        END IF;
        GRANT USAGE ON SCHEMA truth TO shop_platform_writer;
        GRANT INSERT, DELETE ON ALL TABLES IN SCHEMA truth TO shop_platform_writer;

        GRANT USAGE ON SCHEMA public, analytics TO shop_platform_benchmark;
        GRANT SELECT ON public.products, public.events TO shop_platform_benchmark;
        GRANT SELECT (user_id, signup_date, city, country) ON public.users TO shop_platform_benchmark;

        GRANT USAGE ON SCHEMA public, analytics, ops TO shop_platform_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO shop_platform_reader;
        GRANT SELECT ON ops.loads, ops.sources, ops.consumed, ops.migrations TO shop_platform_reader;
        GRANT SELECT ON ops.event_changes, ops.event_changes_before TO shop_platform_reader;
        GRANT SELECT ON public.products, public.events TO shop_platform_reader;
        GRANT SELECT (user_id, signup_date, city, country) ON public.users TO shop_platform_reader;
    EXCEPTION WHEN insufficient_privilege THEN
        NULL;  -- somebody else's tables: their owner grants
    END;

    -- Everybody may, unless somebody has revoked it.
    BEGIN
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO shop_platform_writer', current_database());
    EXCEPTION WHEN insufficient_privilege THEN
        NULL;
    END;
END
$$;
