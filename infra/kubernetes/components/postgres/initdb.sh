#!/bin/sh
# Runs once, on an empty volume: a database and a role for each who needs one, each with its own only. For a managed
# server, `PGHOST=... PGUSER=... PGPASSWORD=... PREFECT_PASSWORD=... ICEBERG_PASSWORD=... sh initdb.sh`.
set -eu
for name in prefect iceberg; do
    password=$(printenv "$(echo "$name" | tr a-z A-Z)_PASSWORD")
    psql --set ON_ERROR_STOP=1 --set name="$name" --set password="$password" postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
GRANT :"name" TO CURRENT_USER;
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
