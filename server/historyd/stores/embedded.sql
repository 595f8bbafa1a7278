-- The embedded store's schema and every statement it runs, on SQLite 3.40 or newer.
-- Instants are microseconds since 1970 UTC. A range [since, until) is half-open.

-- name: schema_1
-- What a file of version 1 is made of. A change of it is a new `schema_N` that alters the one before.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
-- Whose history this is: one host per exchange.
CREATE TABLE origin (
    exchange TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    sandbox INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    exchange TEXT NOT NULL,
    page_bars INTEGER NOT NULL,
    anchor INTEGER
);
-- Disjoint within a series; `row_count` is exactly what the blocks hold in [since, until).
CREATE TABLE fact (
    series_id INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    PRIMARY KEY (series_id, since)
) WITHOUT ROWID;
-- Rows as one Arrow IPC record batch message, CRC-32 of its bytes in `checksum`. From first_ts to last_ts (both
-- inclusive) blocks of a series are disjoint, and every instant between is covered by a fact.
CREATE TABLE block (
    id INTEGER PRIMARY KEY,
    series_id INTEGER NOT NULL,
    first_ts INTEGER NOT NULL,
    last_ts INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    content BLOB NOT NULL
);
-- Holds all but the rows themselves, so that no search walks over blobs.
CREATE UNIQUE INDEX block_by_time ON block (series_id, first_ts, last_ts, row_count, byte_count, checksum);
-- Rows set aside. `at` is `ts` if that lies in the range that was asked for, else the start of that range.
CREATE TABLE quarantine (
    series_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    ts INTEGER,
    reason TEXT NOT NULL,
    content TEXT NOT NULL
);
CREATE INDEX quarantine_by_time ON quarantine (series_id, at);

-- name: schema_2
-- Times at which a newer answer changed, added or took away rows of an older one.
CREATE TABLE revision (
    series_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (series_id, at)
) WITHOUT ROWID;

-- name: put_uuid
INSERT INTO meta (name, value) VALUES ('uuid', :uuid)

-- name: get_uuid
SELECT value FROM meta WHERE name = 'uuid'

-- name: all_series
SELECT id, name, page_bars, anchor FROM series

-- name: put_series
INSERT INTO series (name, exchange, page_bars, anchor) VALUES (:name, :exchange, :page_bars, :anchor)

-- name: delete_series
DELETE FROM series WHERE id = :series

-- name: get_origin
SELECT host, sandbox FROM origin WHERE exchange = :exchange

-- name: put_origin
INSERT INTO origin (exchange, host, sandbox) VALUES (:exchange, :host, :sandbox)

-- name: delete_unused_origin
-- An exchange without a series may be asked from another host.
DELETE FROM origin WHERE exchange = :exchange AND NOT EXISTS (SELECT 1 FROM series WHERE exchange = :exchange)

-- name: facts_touching
-- Facts are disjoint, so at most one that begins at or before :since reaches into the range: no scan from the start.
SELECT since, until, asked_at, row_count FROM fact
WHERE series_id = :series AND since < :until AND until > :since AND since >= ifnull(
    (SELECT max(since) FROM fact WHERE series_id = :series AND since <= :since), :since)
ORDER BY since

-- name: all_facts
SELECT since, until, asked_at, row_count FROM fact WHERE series_id = :series ORDER BY since

-- name: put_fact
INSERT INTO fact (series_id, since, until, asked_at, row_count) VALUES (:series, :since, :until, :asked_at, :row_count)

-- name: delete_fact
DELETE FROM fact WHERE series_id = :series AND since = :since

-- name: delete_facts
DELETE FROM fact WHERE series_id = :series

-- name: blocks_touching
-- As facts_touching: blocks are disjoint too.
SELECT id, first_ts, last_ts, row_count, checksum FROM block
WHERE series_id = :series AND first_ts < :until AND last_ts >= :since AND first_ts >= ifnull(
    (SELECT max(first_ts) FROM block WHERE series_id = :series AND first_ts <= :since), :since)
ORDER BY first_ts

-- name: blocks_before
SELECT id, first_ts, last_ts, row_count, checksum FROM block
WHERE series_id = :series AND first_ts < :until ORDER BY first_ts DESC

-- name: blocks_from
SELECT id, first_ts, last_ts, row_count, checksum FROM block
WHERE series_id = :series AND first_ts >= :since ORDER BY first_ts

-- name: put_block
INSERT INTO block (series_id, first_ts, last_ts, row_count, byte_count, checksum, content)
VALUES (:series, :first_ts, :last_ts, :row_count, :byte_count, :checksum, :content)

-- name: delete_block
DELETE FROM block WHERE id = :id

-- name: delete_blocks
DELETE FROM block WHERE series_id = :series

-- name: rows_of_series
SELECT ifnull(sum(row_count), 0) FROM block WHERE series_id = :series

-- name: put_quarantined
INSERT INTO quarantine (series_id, at, ts, reason, content) VALUES (:series, :at, :ts, :reason, :content)

-- name: delete_quarantined
DELETE FROM quarantine WHERE series_id = :series AND at >= :since AND at < :until

-- name: count_quarantined
SELECT count(*) FROM quarantine WHERE series_id = :series AND at >= :since AND at < :until

-- name: quarantined_in
SELECT ts, reason, content, at FROM quarantine WHERE series_id = :series AND at >= :since AND at < :until ORDER BY at

-- name: quarantined_per_series
SELECT series_id, count(*) FROM quarantine GROUP BY series_id

-- name: put_revision
INSERT OR IGNORE INTO revision (series_id, at) VALUES (:series, :at)

-- name: delete_revisions
DELETE FROM revision WHERE series_id = :series AND at >= :since AND at < :until

-- name: revised_in
SELECT at FROM revision WHERE series_id = :series AND at >= :since AND at < :until ORDER BY at

-- name: list_series
-- Every aggregate comes from an index or a table without blobs.
SELECT name,
    (SELECT min(first_ts) FROM block WHERE series_id = series.id),
    (SELECT max(last_ts) FROM block WHERE series_id = series.id),
    (SELECT ifnull(sum(row_count), 0) FROM block WHERE series_id = series.id),
    (SELECT ifnull(sum(byte_count), 0) FROM block WHERE series_id = series.id),
    (SELECT min(since) FROM fact WHERE series_id = series.id),
    (SELECT max(until) FROM fact WHERE series_id = series.id)
FROM series WHERE name GLOB :pattern AND name > :after ORDER BY name LIMIT :limit
