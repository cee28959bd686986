-- Which database the ledger was made in, which a copy of it does not share: the cluster's identifier
-- and the database's number in it. A ledger that finds itself elsewhere is a copy and gets another id.
ALTER TABLE meta ADD COLUMN system TEXT;
ALTER TABLE meta ADD COLUMN database BIGINT;
