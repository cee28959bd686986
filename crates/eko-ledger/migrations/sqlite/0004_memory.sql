-- Who the ledger is, how often it has committed, and since when it cannot be trusted to know every
-- refund: because it took over from another ledger (adopted), or because it had lost commits (forgot).
-- Times are milliseconds since the epoch. Timestamps of calls are given out up to stamps_until.
ALTER TABLE meta ADD COLUMN ledger_id TEXT;
ALTER TABLE meta ADD COLUMN commits INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN adopted INTEGER;
ALTER TABLE meta ADD COLUMN forgot INTEGER;
ALTER TABLE meta ADD COLUMN stamps_until INTEGER;

-- A command that has ended, and whose event nobody has published yet.
ALTER TABLE commands ADD COLUMN untold INTEGER NOT NULL DEFAULT 0;
CREATE INDEX commands_untold ON commands (finished) WHERE untold = 1;
CREATE INDEX commands_open ON commands (first_received) WHERE finished IS NULL;
