-- Roles without a login, of which the platform takes the least one for each kind of work by SET ROLE. Whoever logs in
-- owns what is here, brings the schema up to date, loads, and builds indexes and copies; the others are for the rest:
--   shop_platform_writer     writes what is computed; changes no schema, and knows neither erased people nor their key
--   shop_platform_benchmark  executes measured queries; reads only, and neither names nor mail addresses
--   shop_platform_reader     reads what is published, and neither names, mail addresses nor quarantined rows
-- Roles are the cluster's: another database of the platform may have made them, or make them at this moment.

-- Whether whoever logged in may take a role: from version 16 on, membership alone does not say so.
CREATE FUNCTION ops.may_take(role text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM pg_roles WHERE rolname = role AND pg_has_role(
            session_user, oid,
            CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END
        )
    )
$$;

-- Makes roles that are missing, and grants all anew; what it may not do, it leaves out. Runs as whoever calls it.
CREATE FUNCTION ops.grant_roles() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    each text;
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
        GRANT SELECT ON public.users, public.products, public.events TO shop_platform_writer;

        GRANT USAGE ON SCHEMA public, analytics TO shop_platform_benchmark;
        GRANT SELECT ON public.products, public.events TO shop_platform_benchmark;
        GRANT SELECT (user_id, signup_date, city, country) ON public.users TO shop_platform_benchmark;

        GRANT USAGE ON SCHEMA public, analytics, ops TO shop_platform_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO shop_platform_reader;
        GRANT SELECT ON ops.loads, ops.sources, ops.consumed, ops.migrations TO shop_platform_reader;
        GRANT SELECT ON public.products, public.events TO shop_platform_reader;
        GRANT SELECT (user_id, signup_date, city, country) ON public.users TO shop_platform_reader;
    EXCEPTION WHEN insufficient_privilege THEN
        NULL;  -- somebody else's tables: their owner grants
    END;
END
$$;
