-- What admission did not allow: records of admission.denials, told at most once.
--
-- The sink's position is its consumer group's, as for dead letters; what it reads again replaces itself. Amounts and
-- quantities are decimal text as they were answered, empty where a denial has none.

CREATE TABLE IF NOT EXISTS tollgate.denial_records
(
    tenant          LowCardinality(String),
    customer        String,
    denial_id       String,
    denied_at       DateTime64(6, 'UTC'),
    reason          LowCardinality(String),
    detail          String                  CODEC(ZSTD),
    user            String,
    meter           LowCardinality(String),
    window          LowCardinality(String),
    per             LowCardinality(String),
    scope           String,
    plan            LowCardinality(String),
    currency        LowCardinality(String),
    limit           String,
    used            String,
    held            String,
    wanted          String,
    remaining       String,
    available       String,
    balance         String,
    resets_at       String,
    catalog_version Int64,
    partition       Int64,
    offset          Int64,
    record          Int64
)
ENGINE = ReplacingMergeTree(record)
-- A customer's denials by time is what is asked for.
ORDER BY (tenant, customer, denied_at, denial_id)
-- Nothing is ever billed by it.
TTL toDateTime(denied_at) + INTERVAL 90 DAY;

CREATE VIEW IF NOT EXISTS tollgate.denials
(
    tenant          LowCardinality(String),
    customer        String,
    denial_id       String,
    denied_at       DateTime64(6, 'UTC'),
    reason          LowCardinality(String),
    detail          String,
    user_id         String,
    meter           LowCardinality(String),
    limit           Nullable(Decimal(38, 9)),
    used            Nullable(Decimal(38, 9)),
    held            Nullable(Decimal(38, 9)),
    wanted          Nullable(Decimal(38, 9)),
    remaining       Nullable(Decimal(38, 9)),
    available       Nullable(Decimal(38, 9)),
    balance         Nullable(Decimal(38, 9)),
    currency        LowCardinality(String),
    window          LowCardinality(String),
    per             LowCardinality(String),
    scope           String,
    resets_at       Nullable(DateTime64(6, 'UTC')),
    plan            LowCardinality(String),
    catalog_version Int64,
    partition       Int64,
    offset          Int64
)
AS SELECT
    tenant,
    customer,
    denial_id,
    denied_at,
    reason,
    detail,
    user AS user_id,
    meter,
    toDecimal128OrNull(denial_records.limit, 9) AS limit,
    toDecimal128OrNull(denial_records.used, 9) AS used,
    toDecimal128OrNull(denial_records.held, 9) AS held,
    toDecimal128OrNull(denial_records.wanted, 9) AS wanted,
    toDecimal128OrNull(denial_records.remaining, 9) AS remaining,
    toDecimal128OrNull(denial_records.available, 9) AS available,
    toDecimal128OrNull(denial_records.balance, 9) AS balance,
    currency,
    window,
    per,
    scope,
    parseDateTime64BestEffortOrNull(denial_records.resets_at, 6, 'UTC') AS resets_at,
    plan,
    catalog_version,
    partition,
    offset
FROM tollgate.denial_records FINAL;
