-- Where it is noted which migrations were applied. Does nothing where it is there already.
SELECT pg_advisory_xact_lock(hashtext('pingeon'), hashtext('migration'));

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pingeon_owner') THEN CREATE ROLE pingeon_owner NOLOGIN; END IF;
    -- To act for the owner, who is not a superuser has to be a member of it.
    IF NOT pg_has_role(current_user, 'pingeon_owner', 'MEMBER') THEN
        EXECUTE format('GRANT pingeon_owner TO %I', current_user);
    END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS pingeon AUTHORIZATION pingeon_owner;

CREATE TABLE IF NOT EXISTS pingeon.migration (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE pingeon.migration OWNER TO pingeon_owner;
