-- Times are milliseconds since the epoch, UTC.
CREATE TABLE meta (
    digest_key BLOB NOT NULL
);

CREATE TABLE commands (
    id              TEXT PRIMARY KEY NOT NULL,
    kind            TEXT NOT NULL,
    tid             TEXT,
    digest          TEXT NOT NULL,
    first_received  INTEGER NOT NULL,
    history         TEXT NOT NULL,
    lease_token     INTEGER,
    lease_until     INTEGER,
    due             INTEGER,
    parked          INTEGER NOT NULL,
    interruptions   INTEGER NOT NULL,
    doubted_since   INTEGER,
    unsettled       INTEGER NOT NULL,
    outcome         TEXT,
    finished        INTEGER,
    event           BLOB
);

-- One unfinished refund for a tid at a time, whatever the code does.
CREATE UNIQUE INDEX commands_unfinished_refund ON commands (tid)
    WHERE kind = 'refund' AND tid IS NOT NULL AND finished IS NULL;
CREATE INDEX commands_tid ON commands (tid) WHERE tid IS NOT NULL;
CREATE INDEX commands_finished ON commands (finished) WHERE finished IS NOT NULL;
CREATE INDEX commands_unsettled ON commands (kind, doubted_since) WHERE unsettled = 1;
CREATE INDEX commands_parked ON commands (kind) WHERE due IS NOT NULL;
