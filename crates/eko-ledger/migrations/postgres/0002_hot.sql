-- No index depends on what the end of a command changes, and a page keeps room for it: so the
-- end is written beside the beginning, and the indexes are touched once for each command.
-- That a tid has one unfinished refund is kept by the advisory locks.
DROP INDEX commands_unfinished_refund;
DROP INDEX commands_finished;
DROP INDEX commands_unsettled;
CREATE INDEX commands_first_received ON commands (first_received);
CREATE INDEX commands_unsettled ON commands (kind) WHERE unsettled;
ALTER TABLE commands SET (fillfactor = 20);
