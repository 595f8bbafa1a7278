-- The QuestDB store's tables and the statements it runs, on QuestDB 9.3.4.
-- {bars}, {trades}, {journal}, {set_aside} and {snapshots} are the names of its tables, checked before they get here;
-- {these} says that `answer` is one of $5 and so on, which IN cannot say of a LONG.
-- Instants are microseconds since 1970 UTC. A range [since, until) is half-open.

-- name: make_bars
-- Every answer of the exchange is kept beside the others under a number of its own; the journal says which counts.
CREATE TABLE IF NOT EXISTS {bars} (
    ts TIMESTAMP,
    series SYMBOL CAPACITY 1024 CACHE,
    open DOUBLE,
    high DOUBLE,
    low DOUBLE,
    close DOUBLE,
    volume DOUBLE,
    answer LONG
) TIMESTAMP(ts) PARTITION BY WEEK WAL DEDUP UPSERT KEYS(ts, series, answer)

-- name: make_trades
CREATE TABLE IF NOT EXISTS {trades} (
    ts TIMESTAMP,
    series SYMBOL CAPACITY 1024 CACHE,
    seq INT,
    id VARCHAR,
    price DOUBLE,
    amount DOUBLE,
    side SYMBOL CAPACITY 16 CACHE,
    answer LONG
) TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, series, seq, answer)

-- name: make_journal
-- Without WAL and without a designated timestamp: rows stand in the order in which they were appended, for every
-- reader the same, and are visible when the insert is acknowledged.
CREATE TABLE IF NOT EXISTS {journal} (
    kind SYMBOL CAPACITY 16 CACHE,
    series SYMBOL CAPACITY 1024 CACHE INDEX,
    since LONG,
    until LONG,
    asked_at LONG,
    row_count LONG,
    answer LONG,
    set_aside LONG,
    page_bars LONG,
    anchor LONG,
    host VARCHAR,
    sandbox BOOLEAN,
    writer VARCHAR,
    written_at TIMESTAMP
)

-- name: make_set_aside
-- Rows set aside. `at` is `ts` if that lies in the range that was asked for, else the start of that range.
CREATE TABLE IF NOT EXISTS {set_aside} (
    series SYMBOL CAPACITY 1024 CACHE INDEX,
    answer LONG,
    at LONG,
    ts LONG,
    reason VARCHAR,
    content VARCHAR
)

-- name: make_snapshots
-- What the journal's first `position` records come to for a series, in so many parts of packed segments. `mark` is the
-- last of these records.
CREATE TABLE IF NOT EXISTS {snapshots} (
    series SYMBOL CAPACITY 1024 CACHE INDEX,
    snapshot LONG,
    position LONG,
    mark VARCHAR,
    parts INT,
    part INT,
    content VARCHAR
)

-- name: make_export_log
-- QuestDB's own table, in its own shape but with a WAL: made at once or not at all, wherever QuestDB is killed. Left to
-- itself, QuestDB makes it without one at its first export, and a kill just then leaves a folder that bars the way.
CREATE TABLE IF NOT EXISTS "sys.copy_export_log" (
    ts TIMESTAMP,
    id VARCHAR,
    table_name SYMBOL,
    export_path SYMBOL,
    num_exported_files INT,
    phase SYMBOL,
    status SYMBOL,
    message VARCHAR,
    errors LONG
) TIMESTAMP(ts) PARTITION BY DAY TTL 3 DAYS WAL

-- name: shape_bars
SHOW COLUMNS FROM {bars}

-- name: shape_trades
SHOW COLUMNS FROM {trades}

-- name: shape_journal
SHOW COLUMNS FROM {journal}

-- name: shape_set_aside
SHOW COLUMNS FROM {set_aside}

-- name: shape_snapshots
SHOW COLUMNS FROM {snapshots}

-- name: form
SELECT walEnabled FROM tables() WHERE table_name = $1

-- name: commit_mode
SELECT value FROM (SHOW PARAMETERS) WHERE property_path = 'cairo.commit.mode'

-- name: put_bars
INSERT INTO {bars} (ts, series, open, high, low, close, volume, answer) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: put_trades
INSERT INTO {trades} (ts, series, seq, id, price, amount, side, answer) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: put_set_aside
INSERT INTO {set_aside} (series, answer, at, ts, reason, content) VALUES ($1, $2, $3, $4, $5, $6)

-- name: progress
SELECT sequencerTxn, writerTxn, suspended FROM wal_tables() WHERE name = $1

-- name: append
INSERT INTO {journal} (kind, series, since, until, asked_at, row_count, answer, set_aside, page_bars, anchor, host,
    sandbox, writer, written_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)

-- name: tail
SELECT kind, series, since, until, asked_at, row_count, answer, set_aside, page_bars, anchor, host, sandbox, writer
FROM {journal} LIMIT $1, $2

-- name: journal_of_series
SELECT kind, series, since, until, asked_at, row_count, answer, set_aside, page_bars, anchor, host, sandbox, writer
FROM (SELECT * FROM {journal} LIMIT $2, $3) WHERE series = $1

-- name: journal_in
SELECT kind, series, since, until, asked_at, row_count, answer, set_aside, page_bars, anchor, host, sandbox, writer
FROM (SELECT * FROM {journal} LIMIT $2)
WHERE series = $1 AND (kind = 'open' OR kind = 'drop' OR (until > $3 AND since < $4))

-- name: put_snapshot
INSERT INTO {snapshots} (series, snapshot, position, mark, parts, part, content) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: snapshots_of_series
SELECT snapshot, position, mark, parts, count() FROM {snapshots} WHERE series = $1

-- name: snapshot
SELECT part, content FROM {snapshots} WHERE series = $1 AND snapshot = $2 ORDER BY part

-- name: journal_without_facts
SELECT kind, series, since, until, asked_at, row_count, answer, set_aside, page_bars, anchor, host, sandbox, writer
FROM (SELECT * FROM {journal} LIMIT $1) WHERE kind IN ('store', 'open', 'drop')

-- name: journal_length
SELECT count() FROM {journal}

-- name: set_aside_in
SELECT at, answer, ts, reason, content FROM {set_aside} WHERE series = $1 AND at >= $2 AND at < $3

-- name: count_bars
SELECT count() FROM {bars} WHERE series = $1 AND ts >= $2 AND ts < $3 AND answer = $4

-- name: count_trades
SELECT count() FROM {trades} WHERE series = $1 AND ts >= $2 AND ts < $3 AND answer = $4

-- name: ends_bars
SELECT cast(min(ts) AS long), cast(max(ts) AS long) FROM {bars}
WHERE series = $1 AND ts >= $2 AND ts < $3 AND answer = $4

-- name: ends_trades
SELECT cast(min(ts) AS long), cast(max(ts) AS long) FROM {trades}
WHERE series = $1 AND ts >= $2 AND ts < $3 AND answer = $4

-- name: few_bars
SELECT cast(ts AS long), open, high, low, close, volume, answer FROM {bars}
WHERE series = $1 AND ts >= $2 AND ts < $3 ORDER BY ts

-- name: few_trades
SELECT cast(ts AS long), seq, id, price, amount, side, answer FROM {trades}
WHERE series = $1 AND ts >= $2 AND ts < $3 ORDER BY ts

-- name: told_bars
-- For each time: rows, and for each column how many values, the least and the greatest.
SELECT cast(ts AS long), count(), count(open), min(open), max(open), count(high), min(high), max(high),
    count(low), min(low), max(low), count(close), min(close), max(close), count(volume), min(volume), max(volume)
FROM {bars} WHERE series = $1 AND ts >= $2 AND ts < $3 GROUP BY ts ORDER BY ts

-- name: last_bars
SELECT cast(ts AS long), open, high, low, close, volume, answer FROM {bars}
WHERE series = $1 AND ts >= $2 AND ts < $3 AND ({these}) ORDER BY ts DESC LIMIT $4
