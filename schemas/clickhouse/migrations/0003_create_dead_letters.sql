-- Dead letters with their originals, from usage.dlq and account.dlq, which alone hold the bytes.
--
-- The sink's position in these topics is its consumer group's, committed after the insert: what it read again replaces
-- itself, since the input record is the key. A retry adds the row again with its time, which then is the one that counts.

CREATE TABLE IF NOT EXISTS tollgate.dead_letter_records
(
    topic       LowCardinality(String),
    partition   UInt16,
    offset      Int64,
    seq         Int64,
    tenant      LowCardinality(String),
    customer    String,
    source      LowCardinality(String),
    event_id    String,
    event_type  LowCardinality(String),
    reason      LowCardinality(String),
    detail      String                  CODEC(ZSTD),
    key         String,
    -- The record's bytes as they came, whether they are text or not. Seldom read.
    original    String                  CODEC(ZSTD),
    received_at DateTime64(6, 'UTC'),
    dlq_offset  Int64,
    retried_at  DateTime64(6, 'UTC')    DEFAULT 0
)
-- They are few. FINAL in the view makes a plain count right.
ENGINE = ReplacingMergeTree(retried_at)
-- The place of the input record: each has one outcome, so at most one dead letter.
ORDER BY (topic, partition, offset);

CREATE VIEW IF NOT EXISTS tollgate.dead_letters
(
    topic       LowCardinality(String),
    partition   UInt16,
    offset      Int64,
    tenant      LowCardinality(String),
    customer    String,
    source      LowCardinality(String),
    event_id    String,
    event_type  LowCardinality(String),
    reason      LowCardinality(String),
    detail      String,
    key         String,
    original    String,
    received_at DateTime64(6, 'UTC'),
    retried_at  Nullable(DateTime64(6, 'UTC')),
    seq         Int64
)
AS SELECT
    topic,
    partition,
    offset,
    tenant,
    customer,
    source,
    event_id,
    event_type,
    reason,
    detail,
    key,
    original,
    received_at,
    nullIf(dead_letter_records.retried_at, fromUnixTimestamp64Micro(0, 'UTC')) AS retried_at,
    seq
FROM tollgate.dead_letter_records FINAL;
