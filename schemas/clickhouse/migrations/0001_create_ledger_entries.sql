-- The ledger in ClickHouse: one row an entry, with its charges, wallet postings and burnt credits nested in it.
--
-- One table, because a block of the ledger has to become visible whole or not at all, and one insert into one table and
-- one partition is one atomic part. Money is Int64 nanos, a quantity whole units and a fraction of nano-units: the views
-- make decimals of them. Nobody updates a row; a correction is a further entry.

CREATE TABLE IF NOT EXISTS tollgate.ledger_entries
(
    -- Place in the ledger. All but seq hardly change from row to row.
    partition           UInt16,
    block_seq           Int64,
    seq                 Int64                           CODEC(Delta(8), LZ4),
    ledger_id           LowCardinality(String),
    ledger_offset       Int64                           CODEC(Delta(8), LZ4),
    catalog_position    Int64,
    rated_at            DateTime64(6, 'UTC')            CODEC(Delta(8), LZ4),

    -- The input record and its outcome.
    topic               Enum8('usage.events' = 0, 'account.events' = 1),
    offset              Int64                           CODEC(Delta(8), LZ4),
    outcome             Enum8('rated' = 1, 'duplicate' = 2, 'ignored' = 3, 'dead_letter' = 4),
    reason              LowCardinality(String),
    flags               UInt8,
    tenant              LowCardinality(String),
    customer            String,
    source              LowCardinality(String),
    event_id            String,
    event_type          LowCardinality(String),
    -- Hashes do not compress: 24 bytes for each identity and content that the entry books. Reading this one column (with
    -- partition and seq) makes the identity index again.
    fingerprints        String                          CODEC(NONE),
    occurred_at         DateTime64(6, 'UTC')            CODEC(Delta(8), LZ4),
    received_at         DateTime64(6, 'UTC')            CODEC(Delta(8), LZ4),
    user_id             String,
    session_id          String,
    device_id           String,
    allocation_id       String,
    hold_id             String,
    upstream_cost       String,

    charge              Nested
    (
        meter           LowCardinality(String),
        price_id        LowCardinality(String),
        catalog_version Int64,
        unit_amount     LowCardinality(String),
        currency        LowCardinality(String),
        dimensions      Map(LowCardinality(String), LowCardinality(String)),
        quantity_units  Int64,
        quantity_nanos  UInt32,
        amount          Int64
    ),

    posting             Nested
    (
        kind            Enum8('charge' = 1, 'grant' = 2, 'deposit' = 3, 'withdrawal' = 4, 'transfer_in' = 5,
                              'transfer_out' = 6, 'refund' = 7, 'adjustment' = 8, 'expiry' = 9, 'correction' = 10),
        amount          Int64,
        balance_after   Int64,
        currency        LowCardinality(String),
        cause           String
    ),

    -- Which credits a posting took from. `posting` is its place in the entry, from 0.
    burnt               Nested
    (
        posting         UInt8,
        credit_id       String,
        amount          Int64
    )
)
ENGINE = MergeTree
-- Constant within a block, so that a block is one part. Parts keep the least and the greatest value of what stands here:
-- "how many rows and which is the last block of partition p" is answered from them, whatever the table's size.
PARTITION BY (partition, intDiv(block_seq, 100000000))
-- One customer's usage over a time is the question of every analyst, invoice and screen: a few granules, whatever the
-- table's size. In order of seq an entry would be cheaper to merge (by 2 of 10 microseconds) and that question a full scan.
ORDER BY (tenant, customer, occurred_at)
SETTINGS
    -- Blocks whose token is remembered; a sink that comes back later than this finds its position in the table instead.
    non_replicated_deduplication_window = 100000,
    -- Blocks are small and rows wide. Merging column by column from the first row on, and many parts at once, took 11
    -- microseconds of the server's CPU for an entry in blocks of 3,000, insert included; the defaults took 17.
    vertical_merge_algorithm_min_rows_to_activate = 1,
    min_parts_to_merge_at_once = 12;
