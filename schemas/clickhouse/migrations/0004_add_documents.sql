-- Documents: orders, payments, subscriptions, invoices and what else an entry of the ledger writes down whole. They lie in
-- the entry's own row, so that they become visible with it or not at all; hardly an entry has one, and empty arrays
-- compress to nothing.

ALTER TABLE tollgate.ledger_entries
    ADD COLUMN IF NOT EXISTS subscription_id String AFTER upstream_cost,
    ADD COLUMN IF NOT EXISTS `document.kind` Array(LowCardinality(String)) AFTER subscription_id,
    ADD COLUMN IF NOT EXISTS `document.id` Array(String) AFTER `document.kind`,
    ADD COLUMN IF NOT EXISTS `document.body` Array(String) AFTER `document.id`;

-- The newest body of each. A document belongs to one customer, and so to one partition, whose seq orders its versions.
CREATE VIEW IF NOT EXISTS tollgate.documents
(
    tenant     LowCardinality(String),
    customer   String,
    kind       LowCardinality(String),
    id         String,
    body       String,
    seq        Int64,
    partition  UInt16,
    decided_at DateTime64(6, 'UTC')
)
AS SELECT
    tenant,
    argMax(customer, place) AS customer,
    kind,
    id,
    argMax(body, place) AS body,
    max(place) AS seq,
    argMax(of_partition, place) AS partition,
    argMax(at, place) AS decided_at
FROM
(
    SELECT
        tenant, customer, seq AS place, partition AS of_partition, rated_at AS at,
        document.kind AS kind, document.id AS id, document.body AS body
    FROM tollgate.ledger_entries
    ARRAY JOIN document
    WHERE notEmpty(document.id)
)
GROUP BY tenant, kind, id;

CREATE OR REPLACE VIEW tollgate.rated_usage
(
    tenant          LowCardinality(String),
    customer        String,
    user_id         String,
    event_id        String,
    source          LowCardinality(String),
    event_type      LowCardinality(String),
    occurred_at     DateTime64(6, 'UTC'),
    meter           LowCardinality(String),
    quantity        Decimal(38, 9),
    price_id        LowCardinality(String),
    catalog_version Int64,
    unit_amount     LowCardinality(String),
    amount          Decimal(38, 9),
    currency        LowCardinality(String),
    dimensions      Map(String, String),
    session_id      String,
    device_id       String,
    allocation_id   String,
    upstream_cost   Nullable(Decimal(38, 9)),
    subscription_id String,
    topic           LowCardinality(String),
    partition       UInt16,
    offset          Int64,
    seq             Int64,
    rated_at        DateTime64(6, 'UTC'),
    late            Bool
)
AS SELECT
    tenant,
    customer,
    user_id,
    event_id,
    source,
    event_type,
    occurred_at,
    charge.meter AS meter,
    toDecimal128(charge.quantity_units, 9) + toDecimal128(charge.quantity_nanos, 0) * toDecimal128('0.000000001', 9)
        AS quantity,
    charge.price_id AS price_id,
    charge.catalog_version AS catalog_version,
    charge.unit_amount AS unit_amount,
    toDecimal128(charge.amount, 0) * toDecimal128('0.000000001', 9) AS amount,
    charge.currency AS currency,
    charge.dimensions AS dimensions,
    session_id,
    device_id,
    allocation_id,
    -- The event's, as its producer sent it: it stands on each of the event's rows.
    toDecimal128OrNull(upstream_cost, 9) AS upstream_cost,
    subscription_id,
    topic,
    partition,
    offset,
    seq,
    rated_at,
    bitAnd(flags, 1) = 1 AS late
FROM tollgate.ledger_entries
ARRAY JOIN charge;
