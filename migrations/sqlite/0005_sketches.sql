-- Rows of windows, kept so that readings can be computed again with other windows. A block holds what one commit settled
-- of a stream. The key says which are the oldest. With a rowid, because payloads are long.
CREATE TABLE sketch_blocks (
    run_id     BLOB    NOT NULL,
    group_name TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    segment    INTEGER NOT NULL,
    first_step INTEGER NOT NULL,
    last_step  INTEGER NOT NULL,
    row_count  INTEGER NOT NULL,
    payload    BLOB    NOT NULL,
    PRIMARY KEY (run_id, group_name, kind, segment, first_step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT;

-- Re-analyses. While one is running, the blocks that it reads are not deleted.
CREATE TABLE analyses (
    run_id          BLOB    NOT NULL REFERENCES runs (run_id),
    name            TEXT    NOT NULL,
    -- JSON: what is to be computed.
    spec            TEXT    NOT NULL,
    -- JSON: the last step of each segment when it began.
    marks           TEXT    NOT NULL,
    -- The last step that it reads.
    pinned_to_step  INTEGER NOT NULL,
    state           TEXT    NOT NULL,
    created_at_us   INTEGER NOT NULL,
    updated_at_us   INTEGER NOT NULL,
    -- How many commits it has made; one names the number that must be the last.
    commits         INTEGER NOT NULL DEFAULT 0,
    rows_total      INTEGER NOT NULL,
    rows_done       INTEGER NOT NULL DEFAULT 0,
    readings_count  INTEGER NOT NULL DEFAULT 0,
    transitions     INTEGER NOT NULL DEFAULT 0,
    -- JSON: the last row that its commits have seen; null before the first.
    position        TEXT,
    -- Why it failed.
    message         TEXT,
    PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;

-- Those that have to go on after a restart, and those that are to be deleted: few among all.
CREATE INDEX analyses_at_work ON analyses (run_id, name) WHERE state IN ('running', 'deleting');
