-- What is left of a credit is what came in less all that postings burnt of it, debt that it paid as it came included; also
-- of money that came by a transfer or a correction by hand. A session has ended whether or not its end is metered.

CREATE OR REPLACE VIEW tollgate.credit_grants
(
    tenant     LowCardinality(String),
    customer   String,
    credit_id  String,
    kind       LowCardinality(String),
    amount     Decimal(38, 9),
    remaining  Decimal(38, 9),
    charged    Decimal(38, 9),
    expired    Decimal(38, 9),
    taken_back Decimal(38, 9),
    -- By withdrawals, transfers and corrections by hand.
    taken_out  Decimal(38, 9),
    paid_debt  Decimal(38, 9),
    currency   LowCardinality(String),
    granted_at DateTime64(6, 'UTC')
)
AS SELECT
    tenant,
    customer,
    credit_id,
    max(given) AS kind,
    sumIf(nanos, given != '') * toDecimal128('0.000000001', 9) AS amount,
    sum(if(given != '', nanos, -nanos)) * toDecimal128('0.000000001', 9) AS remaining,
    sumIf(nanos, taken IN ('charge', 'correction')) * toDecimal128('0.000000001', 9) AS charged,
    sumIf(nanos, taken = 'expiry') * toDecimal128('0.000000001', 9) AS expired,
    sumIf(nanos, taken = 'refund') * toDecimal128('0.000000001', 9) AS taken_back,
    sumIf(nanos, taken IN ('withdrawal', 'transfer_out', 'adjustment')) * toDecimal128('0.000000001', 9) AS taken_out,
    sumIf(nanos, taken = 'debt') * toDecimal128('0.000000001', 9) AS paid_debt,
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
    WHERE posting.kind IN ('grant', 'deposit', 'transfer_in', 'adjustment') AND posting.amount > 0
    UNION ALL
    SELECT
        tenant,
        customer,
        burnt.credit_id AS credit_id,
        '' AS given,
        if(posting.amount[burnt.posting + 1] > 0, 'debt', toString(posting.kind[burnt.posting + 1])) AS taken,
        toDecimal128(burnt.amount, 0) AS nanos,
        '' AS money,
        occurred_at
    FROM tollgate.ledger_entries
    ARRAY JOIN burnt
)
GROUP BY tenant, customer, credit_id
HAVING kind != '';

CREATE OR REPLACE VIEW tollgate.sessions
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
WHERE session_id != '' AND (outcome = 'rated' OR (outcome = 'ignored' AND event_type = 'session.ended'))
GROUP BY tenant, customer, session_id;
