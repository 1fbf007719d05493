-- Where it is noted which migrations were applied, and whose all of it is. Changes nothing where that is there already.
-- Names mean what they say, whatever others have put into the schemas that are searched.
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
DECLARE
    acts_for_owner boolean;
BEGIN
    -- One at a time.
    PERFORM pg_advisory_xact_lock(hashtext('pingeon'), hashtext('migration'));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pingeon_owner') THEN
        -- Roles belong to all databases of the server: another one's migration may be faster.
        BEGIN
            CREATE ROLE pingeon_owner NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    -- Who is not a superuser has to be a member, and from version 16 on one that may act for it.
    IF current_setting('server_version_num')::integer < 160000 THEN
        acts_for_owner := pg_has_role(current_user, 'pingeon_owner', 'MEMBER');
    ELSE
        EXECUTE $sql$SELECT pg_has_role(current_user, 'pingeon_owner', 'SET')$sql$ INTO acts_for_owner;
    END IF;
    IF NOT acts_for_owner THEN
        EXECUTE format('GRANT pingeon_owner TO %I', current_user);
    END IF;
    IF to_regnamespace('pingeon') IS NULL THEN
        CREATE SCHEMA pingeon AUTHORIZATION pingeon_owner;
    END IF;
END $$;

SET LOCAL ROLE pingeon_owner;
DO $$ BEGIN
    IF to_regclass('pingeon.migration') IS NULL THEN
        CREATE TABLE pingeon.migration (
            version    integer     PRIMARY KEY,
            name       text        NOT NULL,
            checksum   text        NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        );
    END IF;
END $$;
RESET ROLE;
