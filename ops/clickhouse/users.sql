-- Users of a ClickHouse of your own, each with the least rights: put passwords in, run it once as an administrator.
--
--   tollgate_owner   TOLLGATE_CLICKHOUSE_URL of `tollgate up`: makes and changes the tables
--   tollgate_writer  TOLLGATE_CLICKHOUSE_URL of worker, sink and scheduler: adds rows, changes none
--   tollgate_reader  TOLLGATE_CLICKHOUSE_READER_URL of the API, and analysts: reads, within bounds
--
-- The native ClickHouse of `tollgate up` has the first and the last of them by itself.

CREATE SETTINGS PROFILE IF NOT EXISTS tollgate_reading SETTINGS
    -- No writes, no DDL; a query may still set what bounds or formats it.
    readonly = 2,
    max_execution_time = 15 MAX 120,
    max_memory_usage = 4000000000 MAX 8000000000,
    max_result_rows = 10000000,
    max_concurrent_queries_for_user = 64;

CREATE USER IF NOT EXISTS tollgate_owner  IDENTIFIED WITH sha256_password BY '<password>';
CREATE USER IF NOT EXISTS tollgate_writer IDENTIFIED WITH sha256_password BY '<password>';
CREATE USER IF NOT EXISTS tollgate_reader IDENTIFIED WITH sha256_password BY '<password>'
    SETTINGS PROFILE 'tollgate_reading';

GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER, SELECT, INSERT ON tollgate.* TO tollgate_owner;
GRANT SELECT, INSERT ON tollgate.* TO tollgate_writer;
GRANT SELECT ON tollgate.* TO tollgate_reader;
