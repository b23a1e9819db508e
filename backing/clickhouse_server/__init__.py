"""A ClickHouse-HTTP server over the chDB engine: one process, one data directory, no other program.

    http request -> request (values) -> statement (what kind of SQL) -> execution (on a handle of the engine) -> answer

What it serves is what clickhouse-connect, curl, Grafana's data sources and Tollgate's sink use of ClickHouse's HTTP
interface: queries in any output format, streamed in bounded memory; inserts with their payload, settings and
deduplication tokens; server-side parameters; sessions; compression both ways; ClickHouse's error codes with the
HTTP status that ClickHouse gives them. An insert that was answered 200 is in the engine's files: it outlives
kill -9 of this process (a crash of the machine too where the table has `fsync_after_insert = 1`, as with every
ClickHouse).

Not served, and said so to whoever asks: external tables, TLS, roles, ClickHouse's own block compression
(`compress=1`, `decompress=1`), `client_protocol_version` (answers are of version 0), progress headers, and
`KILL QUERY` by the client's query id. A query whose client has gone is ended; nothing else can be cancelled, and an
insert never is.

Modules: `errors`, `statement`, `request`, `credentials`, `compression`, `content_type` (pure), `configuration` (what
the engine is started with), `engine` (handles), `sessions`, `execution` (one request on a handle), `answer_pipe`,
`application` (ASGI), `__main__`.
"""
