-- The first slot of each key of Eko that no worker has taken, in microseconds since the epoch, and the same
-- where the clock was before it was last set. The key stands here as a digest. `meta.stamps_until` is not
-- written any more.
CREATE TABLE slots (
    key     TEXT COLLATE "C" PRIMARY KEY,
    next    BIGINT NOT NULL,
    earlier BIGINT
);
