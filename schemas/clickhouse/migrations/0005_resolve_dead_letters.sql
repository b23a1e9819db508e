-- A dead letter ends in one of two ways: it is sent again to its topic, or it is dropped for a reason. Either is a further
-- record of the dead letter topic with the place of the first; its row replaces the first by `retried_at`, which is when
-- it was resolved, whichever way.

ALTER TABLE tollgate.dead_letter_records
    ADD COLUMN IF NOT EXISTS resolution LowCardinality(String) DEFAULT '',
    ADD COLUMN IF NOT EXISTS note       String DEFAULT '';

CREATE OR REPLACE VIEW tollgate.dead_letters
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
    seq         Int64,
    dropped_at  Nullable(DateTime64(6, 'UTC')),
    note        String
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
    if(resolution = 'retried', dead_letter_records.retried_at, NULL) AS retried_at,
    seq,
    if(resolution = 'dropped', dead_letter_records.retried_at, NULL) AS dropped_at,
    note
FROM tollgate.dead_letter_records FINAL;
