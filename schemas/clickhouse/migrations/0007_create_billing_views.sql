-- Invoices, subscriptions, orders and payments as analysts read them: the newest body of each document, in columns.
-- Money in bodies is decimal text, times RFC 3339; what is not there is an empty text or null.

CREATE VIEW IF NOT EXISTS tollgate.invoices
(
    tenant          LowCardinality(String),
    customer        String,
    invoice_id      String,
    number          Nullable(String),
    kind            LowCardinality(String),
    cause           String,
    revision        UInt32,
    period_start    DateTime64(6, 'UTC'),
    period_end      DateTime64(6, 'UTC'),
    currency        LowCardinality(String),
    collection      LowCardinality(String),
    state           LowCardinality(String),
    subtotal        Decimal(38, 9),
    tax             Decimal(38, 9),
    total           Decimal(38, 9),
    remainder       Decimal(38, 9),
    amount_paid     Decimal(38, 9),
    amount_due      Decimal(38, 9),
    subscription_id String,
    created_at      Nullable(DateTime64(6, 'UTC')),
    due_at          Nullable(DateTime64(6, 'UTC')),
    finalized_at    Nullable(DateTime64(6, 'UTC')),
    paid_at         Nullable(DateTime64(6, 'UTC')),
    voided_at       Nullable(DateTime64(6, 'UTC')),
    -- The entries below this seq of the partition are in it.
    position_seq    Int64,
    partition       UInt16
)
AS SELECT
    tenant,
    customer,
    id AS invoice_id,
    nullIf(JSONExtractString(body, 'number'), '') AS number,
    JSONExtractString(body, 'kind') AS kind,
    JSONExtractString(body, 'cause') AS cause,
    JSONExtractUInt(body, 'revision') AS revision,
    parseDateTime64BestEffort(JSONExtractString(body, 'period', 'start'), 6, 'UTC') AS period_start,
    parseDateTime64BestEffort(JSONExtractString(body, 'period', 'end'), 6, 'UTC') AS period_end,
    JSONExtractString(body, 'currency') AS currency,
    JSONExtractString(body, 'collection') AS collection,
    JSONExtractString(body, 'state') AS state,
    toDecimal128OrZero(JSONExtractString(body, 'subtotal'), 9) AS subtotal,
    toDecimal128OrZero(JSONExtractString(body, 'tax'), 9) AS tax,
    toDecimal128OrZero(JSONExtractString(body, 'total'), 9) AS total,
    toDecimal128OrZero(JSONExtractString(body, 'remainder'), 9) AS remainder,
    toDecimal128OrZero(JSONExtractString(body, 'amount_paid'), 9) AS amount_paid,
    toDecimal128OrZero(JSONExtractString(body, 'amount_due'), 9) AS amount_due,
    JSONExtractString(body, 'subscription_id') AS subscription_id,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'created_at'), 6, 'UTC') AS created_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'due_at'), 6, 'UTC') AS due_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'finalized_at'), 6, 'UTC') AS finalized_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'paid_at'), 6, 'UTC') AS paid_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'voided_at'), 6, 'UTC') AS voided_at,
    JSONExtractInt(body, 'position', 'seq') AS position_seq,
    partition
FROM tollgate.documents
WHERE documents.kind = 'invoice';

CREATE VIEW IF NOT EXISTS tollgate.invoice_lines
(
    tenant       LowCardinality(String),
    customer     String,
    invoice_id   String,
    line_id      String,
    kind         LowCardinality(String),
    price_id     String,
    meter        String,
    description  String,
    quantity     Nullable(Decimal(38, 9)),
    unit_amount  String,
    exact_amount Decimal(38, 9),
    amount       Decimal(38, 9),
    currency     LowCardinality(String),
    period_start DateTime64(6, 'UTC'),
    period_end   DateTime64(6, 'UTC')
)
AS SELECT
    tenant,
    customer,
    id AS invoice_id,
    JSONExtractString(line, 'id') AS line_id,
    JSONExtractString(line, 'kind') AS kind,
    JSONExtractString(line, 'price_id') AS price_id,
    JSONExtractString(line, 'meter') AS meter,
    JSONExtractString(line, 'description') AS description,
    toDecimal128OrNull(JSONExtractString(line, 'quantity'), 9) AS quantity,
    JSONExtractString(line, 'unit_amount') AS unit_amount,
    toDecimal128OrZero(JSONExtractString(line, 'exact_amount'), 9) AS exact_amount,
    toDecimal128OrZero(JSONExtractString(line, 'amount'), 9) AS amount,
    JSONExtractString(body, 'currency') AS currency,
    parseDateTime64BestEffort(JSONExtractString(line, 'period', 'start'), 6, 'UTC') AS period_start,
    parseDateTime64BestEffort(JSONExtractString(line, 'period', 'end'), 6, 'UTC') AS period_end
FROM
(
    SELECT tenant, customer, id, body, arrayJoin(JSONExtractArrayRaw(body, 'lines')) AS line
    FROM tollgate.documents
    WHERE documents.kind = 'invoice'
);

CREATE VIEW IF NOT EXISTS tollgate.subscriptions
(
    tenant          LowCardinality(String),
    customer        String,
    subscription_id String,
    plan_id         String,
    status          LowCardinality(String),
    billing_cycle   LowCardinality(String),
    period_start    DateTime64(6, 'UTC'),
    period_end      DateTime64(6, 'UTC'),
    started_at      Nullable(DateTime64(6, 'UTC')),
    trial_end       Nullable(DateTime64(6, 'UTC')),
    cancel_at       Nullable(DateTime64(6, 'UTC')),
    ended_at        Nullable(DateTime64(6, 'UTC')),
    next_at         Nullable(DateTime64(6, 'UTC')),
    next_plan_id    String,
    attempt_count   UInt32
)
AS SELECT
    tenant,
    customer,
    id AS subscription_id,
    JSONExtractString(body, 'plan_id') AS plan_id,
    JSONExtractString(body, 'status') AS status,
    JSONExtractString(body, 'billing_cycle') AS billing_cycle,
    parseDateTime64BestEffort(JSONExtractString(body, 'current_period', 'start'), 6, 'UTC') AS period_start,
    parseDateTime64BestEffort(JSONExtractString(body, 'current_period', 'end'), 6, 'UTC') AS period_end,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'started_at'), 6, 'UTC') AS started_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'trial_end'), 6, 'UTC') AS trial_end,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'cancel_at'), 6, 'UTC') AS cancel_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'ended_at'), 6, 'UTC') AS ended_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'next_at'), 6, 'UTC') AS next_at,
    JSONExtractString(body, 'next_plan_id') AS next_plan_id,
    JSONExtractUInt(body, 'attempt_count') AS attempt_count
FROM tollgate.documents
WHERE kind = 'subscription';

CREATE VIEW IF NOT EXISTS tollgate.orders
(
    tenant            LowCardinality(String),
    customer          String,
    order_id          String,
    order_type        LowCardinality(String),
    status            LowCardinality(String),
    total_amount      Decimal(38, 9),
    currency          LowCardinality(String),
    payment_intent_id String,
    payment_id        String,
    subscription_id   String,
    created_at        Nullable(DateTime64(6, 'UTC')),
    updated_at        Nullable(DateTime64(6, 'UTC')),
    expires_at        Nullable(DateTime64(6, 'UTC'))
)
AS SELECT
    tenant,
    customer,
    id AS order_id,
    JSONExtractString(body, 'order_type') AS order_type,
    JSONExtractString(body, 'status') AS status,
    toDecimal128OrZero(JSONExtractString(body, 'total_amount'), 9) AS total_amount,
    JSONExtractString(body, 'currency') AS currency,
    JSONExtractString(body, 'payment_intent_id') AS payment_intent_id,
    JSONExtractString(body, 'payment_id') AS payment_id,
    JSONExtractString(body, 'subscription_id') AS subscription_id,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'created_at'), 6, 'UTC') AS created_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'updated_at'), 6, 'UTC') AS updated_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'expires_at'), 6, 'UTC') AS expires_at
FROM tollgate.documents
WHERE kind = 'order';

CREATE VIEW IF NOT EXISTS tollgate.payments
(
    tenant            LowCardinality(String),
    customer          String,
    payment_id        String,
    payment_intent_id String,
    order_id          String,
    invoice_id        String,
    status            LowCardinality(String),
    amount            Decimal(38, 9),
    refunded_amount   Decimal(38, 9),
    currency          LowCardinality(String),
    created_at        Nullable(DateTime64(6, 'UTC')),
    completed_at      Nullable(DateTime64(6, 'UTC'))
)
AS SELECT
    tenant,
    customer,
    id AS payment_id,
    JSONExtractString(body, 'payment_intent_id') AS payment_intent_id,
    JSONExtractString(body, 'order_id') AS order_id,
    JSONExtractString(body, 'invoice_id') AS invoice_id,
    JSONExtractString(body, 'status') AS status,
    toDecimal128OrZero(JSONExtractString(body, 'amount'), 9) AS amount,
    toDecimal128OrZero(JSONExtractString(body, 'refunded_amount'), 9) AS refunded_amount,
    JSONExtractString(body, 'currency') AS currency,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'created_at'), 6, 'UTC') AS created_at,
    parseDateTime64BestEffortOrNull(JSONExtractString(body, 'completed_at'), 6, 'UTC') AS completed_at
FROM tollgate.documents
WHERE kind = 'payment';
