-- Which kinds an operator has paused, for all workers of the ledger. Times are milliseconds since the epoch.
CREATE TABLE pauses (
    kind    TEXT PRIMARY KEY NOT NULL,
    since   INTEGER NOT NULL,
    person  TEXT NOT NULL,
    reason  TEXT NOT NULL
);

-- What people have done: who, when, what (action, subject, tid) and why; then when it ended, and how. An
-- action that was cut off has no end.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    person  TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT,
    tid     TEXT,
    reason  TEXT,
    ended   INTEGER,
    result  TEXT,
    detail  TEXT
);
CREATE INDEX audit_at ON audit (at);

-- Refunds of which a person must learn whether they were executed.
CREATE INDEX commands_unresolved ON commands (finished) WHERE outcome = 'unresolved';
