-- What analysts read of the ledger. An amount is nanos times 1e-9, exactly; sums of decimals have 38 digits and do not
-- wrap as sums of Int64 would.

CREATE VIEW IF NOT EXISTS tollgate.rated_usage
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
    '' AS subscription_id,
    topic,
    partition,
    offset,
    seq,
    rated_at,
    bitAnd(flags, 1) = 1 AS late
FROM tollgate.ledger_entries
ARRAY JOIN charge;

CREATE VIEW IF NOT EXISTS tollgate.ledger
(
    tenant        LowCardinality(String),
    customer      String,
    entry_id      String,
    kind          LowCardinality(String),
    amount        Decimal(38, 9),
    balance_after Decimal(38, 9),
    currency      LowCardinality(String),
    occurred_at   DateTime64(6, 'UTC'),
    cause         String,
    seq           Int64,
    partition     UInt16,
    rated_at      DateTime64(6, 'UTC')
)
AS SELECT
    tenant,
    customer,
    concat(toString(partition), '-', toString(seq), '-', toString(place - 1)) AS entry_id,
    posting.kind AS kind,
    toDecimal128(posting.amount, 0) * toDecimal128('0.000000001', 9) AS amount,
    toDecimal128(posting.balance_after, 0) * toDecimal128('0.000000001', 9) AS balance_after,
    posting.currency AS currency,
    occurred_at,
    if(posting.cause = '', event_id, posting.cause) AS cause,
    seq,
    partition,
    rated_at
FROM tollgate.ledger_entries
ARRAY JOIN posting, arrayEnumerate(posting.kind) AS place;

CREATE VIEW IF NOT EXISTS tollgate.event_outcomes
(
    topic      LowCardinality(String),
    partition  UInt16,
    offset     Int64,
    tenant     LowCardinality(String),
    customer   String,
    source     LowCardinality(String),
    event_id   String,
    event_type LowCardinality(String),
    outcome    LowCardinality(String),
    reason     LowCardinality(String),
    seq        Int64,
    decided_at DateTime64(6, 'UTC')
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
    outcome,
    reason,
    seq,
    rated_at AS decided_at
FROM tollgate.ledger_entries;

CREATE VIEW IF NOT EXISTS tollgate.usage_hourly
(
    tenant       LowCardinality(String),
    customer     String,
    meter        LowCardinality(String),
    dimensions   Map(String, String),
    currency     LowCardinality(String),
    window_start DateTime('UTC'),
    quantity     Decimal(38, 9),
    amount       Decimal(38, 9),
    events       UInt64
)
AS SELECT
    tenant,
    customer,
    meter,
    dimensions,
    currency,
    toStartOfHour(occurred_at) AS window_start,
    sum(rated_usage.quantity) AS quantity,
    sum(rated_usage.amount) AS amount,
    count() AS events
FROM tollgate.rated_usage
GROUP BY tenant, customer, meter, dimensions, currency, window_start;

CREATE VIEW IF NOT EXISTS tollgate.usage_daily
(
    tenant       LowCardinality(String),
    customer     String,
    meter        LowCardinality(String),
    dimensions   Map(String, String),
    currency     LowCardinality(String),
    window_start DateTime('UTC'),
    quantity     Decimal(38, 9),
    amount       Decimal(38, 9),
    events       UInt64
)
AS SELECT
    tenant,
    customer,
    meter,
    dimensions,
    currency,
    toStartOfDay(occurred_at) AS window_start,
    sum(rated_usage.quantity) AS quantity,
    sum(rated_usage.amount) AS amount,
    count() AS events
FROM tollgate.rated_usage
GROUP BY tenant, customer, meter, dimensions, currency, window_start;

-- Sessions as their events tell them.
CREATE VIEW IF NOT EXISTS tollgate.sessions
(
    tenant        LowCardinality(String),
    customer      String,
    session_id    String,
    user_id       String,
    first_event   DateTime64(6, 'UTC'),
    last_event    DateTime64(6, 'UTC'),
    ended         Bool,
    events        UInt64,
    amount        Decimal(38, 9),
    currency      LowCardinality(String)
)
AS SELECT
    tenant,
    customer,
    session_id,
    max(ledger_entries.user_id) AS user_id,
    min(occurred_at) AS first_event,
    max(occurred_at) AS last_event,
    max(event_type = 'session.ended') AS ended,
    count() AS events,
    sum(arraySum(nanos -> toDecimal128(nanos, 0), charge.amount)) * toDecimal128('0.000000001', 9) AS amount,
    max(charge.currency[1]) AS currency
FROM tollgate.ledger_entries
WHERE session_id != '' AND outcome = 'rated'
GROUP BY tenant, customer, session_id;

-- Credits, and what postings of each kind took from them.
CREATE VIEW IF NOT EXISTS tollgate.credit_grants
(
    tenant     LowCardinality(String),
    customer   String,
    credit_id  String,
    kind       LowCardinality(String),
    amount     Decimal(38, 9),
    charged    Decimal(38, 9),
    expired    Decimal(38, 9),
    taken_back Decimal(38, 9),
    currency   LowCardinality(String),
    granted_at DateTime64(6, 'UTC')
)
AS SELECT
    tenant,
    customer,
    credit_id,
    max(given) AS kind,
    sumIf(nanos, given != '') * toDecimal128('0.000000001', 9) AS amount,
    sumIf(nanos, taken = 'charge') * toDecimal128('0.000000001', 9) AS charged,
    sumIf(nanos, taken = 'expiry') * toDecimal128('0.000000001', 9) AS expired,
    sumIf(nanos, taken = 'refund') * toDecimal128('0.000000001', 9) AS taken_back,
    max(money) AS currency,
    maxIf(occurred_at, given != '') AS granted_at
FROM
(
    SELECT
        tenant,
        customer,
        posting.cause AS credit_id,
        toString(posting.kind) AS given,
        '' AS taken,
        toDecimal128(posting.amount, 0) AS nanos,
        toString(posting.currency) AS money,
        occurred_at
    FROM tollgate.ledger_entries
    ARRAY JOIN posting
    WHERE posting.kind IN ('grant', 'deposit')
    UNION ALL
    SELECT
        tenant,
        customer,
        burnt.credit_id AS credit_id,
        '' AS given,
        toString(posting.kind[burnt.posting + 1]) AS taken,
        toDecimal128(burnt.amount, 0) AS nanos,
        '' AS money,
        occurred_at
    FROM tollgate.ledger_entries
    ARRAY JOIN burnt
)
GROUP BY tenant, customer, credit_id
HAVING kind != '';
