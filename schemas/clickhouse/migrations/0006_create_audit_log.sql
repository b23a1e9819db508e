-- Who changed what: records of audit.log, one when a change is asked for and one when it has been answered.
--
-- The second replaces the first, so that a change whose answer nobody saw is still there. The sink's position is its
-- consumer group's, as for dead letters; what it reads again replaces itself.

CREATE TABLE IF NOT EXISTS tollgate.audit_records
(
    audit_id String,
    tenant   LowCardinality(String),
    at       DateTime64(6, 'UTC'),
    actor    String,
    action   LowCardinality(String),
    target   String,
    -- HTTP's, or 200 and 500 for a command that ended well or not; 0 where it is not known.
    status   UInt16,
    detail   String                  CODEC(ZSTD),
    offset   Int64
)
ENGINE = ReplacingMergeTree(offset)
-- A tenant's changes by time is what is asked for.
ORDER BY (tenant, at, audit_id);

CREATE VIEW IF NOT EXISTS tollgate.audit_log
(
    tenant   LowCardinality(String),
    at       DateTime64(6, 'UTC'),
    audit_id String,
    actor    String,
    action   LowCardinality(String),
    target   String,
    status   Nullable(UInt16),
    detail   String
)
AS SELECT
    tenant,
    at,
    audit_id,
    actor,
    action,
    target,
    nullIf(audit_records.status, 0) AS status,
    detail
FROM tollgate.audit_records FINAL;
