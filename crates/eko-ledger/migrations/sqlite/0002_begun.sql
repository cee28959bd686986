-- Commands that were seen for the first time, until they are parked, end or have stood here for
-- some seconds: those of one commit share a row, so that beginning an attempt costs one write
-- for all of them and no index.
CREATE TABLE begun (
    batch   INTEGER PRIMARY KEY,
    rows    TEXT NOT NULL
);
