-- Times are milliseconds since the epoch, UTC.
CREATE TABLE meta (
    digest_key BYTEA NOT NULL
);

CREATE TABLE commands (
    id              TEXT COLLATE "C" PRIMARY KEY,
    kind            TEXT NOT NULL,
    tid             TEXT COLLATE "C",
    digest          TEXT NOT NULL,
    first_received  BIGINT NOT NULL,
    history         TEXT NOT NULL,
    lease_token     BIGINT,
    lease_until     BIGINT,
    due             BIGINT,
    parked          BIGINT NOT NULL,
    interruptions   BIGINT NOT NULL,
    doubted_since   BIGINT,
    unsettled       BOOLEAN NOT NULL,
    outcome         TEXT,
    finished        BIGINT,
    event           BYTEA
);

-- One unfinished refund for a tid at a time, whatever the code does.
CREATE UNIQUE INDEX commands_unfinished_refund ON commands (tid)
    WHERE kind = 'refund' AND tid IS NOT NULL AND finished IS NULL;
CREATE INDEX commands_tid ON commands (tid) WHERE tid IS NOT NULL;
CREATE INDEX commands_finished ON commands (finished) WHERE finished IS NOT NULL;
CREATE INDEX commands_unsettled ON commands (kind, doubted_since) WHERE unsettled;
CREATE INDEX commands_parked ON commands (kind) WHERE due IS NOT NULL;
