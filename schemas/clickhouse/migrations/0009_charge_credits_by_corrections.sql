-- What a correction takes out of credits (history rated again at higher prices) was charged of them, as a charge is.

CREATE OR REPLACE VIEW tollgate.credit_grants
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
    sumIf(nanos, taken IN ('charge', 'correction')) * toDecimal128('0.000000001', 9) AS charged,
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
