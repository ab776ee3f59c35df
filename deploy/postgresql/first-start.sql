-- Make the application's role and database. The postgres image runs this once, on an empty volume.
\set password `cat /run/secrets/database_password`
SELECT length(:'password') < 16 AS unset \gset
\if :unset
    DO $$ BEGIN RAISE EXCEPTION 'the secret database_password is missing, empty or short; deploy/make-secrets makes one'; END $$;
\endif
CREATE ROLE rollcall LOGIN PASSWORD :'password';
CREATE DATABASE rollcall OWNER rollcall;
REVOKE CONNECT ON DATABASE rollcall FROM PUBLIC;
