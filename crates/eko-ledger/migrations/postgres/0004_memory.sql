-- Who the ledger is, and since when it cannot be trusted to know every refund: because it took over
-- from another ledger (adopted), or because it had lost commits (forgot). Times are milliseconds since
-- the epoch. Timestamps of calls are given out up to stamps_until.
ALTER TABLE meta ADD COLUMN ledger_id TEXT;
ALTER TABLE meta ADD COLUMN adopted BIGINT;
ALTER TABLE meta ADD COLUMN forgot BIGINT;
ALTER TABLE meta ADD COLUMN stamps_until BIGINT;

-- How often each worker process has committed. A row of its own for each: workers do not wait for
-- each other. The ledger's counter is the sum.
CREATE TABLE commits (
    worker  BIGINT PRIMARY KEY,
    count   BIGINT NOT NULL
);

-- A command that has ended, and whose event nobody has published yet.
ALTER TABLE commands ADD COLUMN untold BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX commands_untold ON commands (finished) WHERE untold;
CREATE INDEX commands_open ON commands (first_received) WHERE finished IS NULL;

-- That a tid has one unfinished refund is kept by the advisory locks, and by the database as well:
-- locks do not outlive a failover. The price: the end of a command touches the indexes again.
CREATE UNIQUE INDEX commands_unfinished_refund ON commands (tid)
    WHERE kind = 'refund' AND tid IS NOT NULL AND finished IS NULL;
