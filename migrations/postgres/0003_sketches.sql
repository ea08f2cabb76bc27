-- Rows of windows, kept so that readings can be computed again with other windows. A block holds what one commit settled
-- of a stream. The key says which are the oldest. No foreign key: a moved mark shows that the segment exists.
CREATE TABLE sketch_blocks (
    run_id     UUID             NOT NULL,
    group_name TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    segment    BIGINT           NOT NULL,
    first_step BIGINT           NOT NULL,
    last_step  BIGINT           NOT NULL,
    row_count  BIGINT           NOT NULL,
    payload    BYTEA            NOT NULL,
    PRIMARY KEY (run_id, group_name, kind, segment, first_step)
);

-- Arrays of floats do not compress.
ALTER TABLE sketch_blocks ALTER COLUMN payload SET STORAGE EXTERNAL;

-- Re-analyses. While one is running, the blocks that it reads are not deleted.
CREATE TABLE analyses (
    run_id          UUID             NOT NULL REFERENCES runs (run_id),
    name            TEXT COLLATE "C" NOT NULL,
    -- JSON: what is to be computed.
    spec            TEXT             NOT NULL,
    -- JSON: the last step of each segment when it began.
    marks           TEXT             NOT NULL,
    -- The last step that it reads.
    pinned_to_step  BIGINT           NOT NULL,
    state           TEXT COLLATE "C" NOT NULL,
    created_at_us   BIGINT           NOT NULL,
    updated_at_us   BIGINT           NOT NULL,
    -- How many commits it has made; one names the number that must be the last.
    commits         BIGINT           NOT NULL DEFAULT 0,
    rows_total      BIGINT           NOT NULL,
    rows_done       BIGINT           NOT NULL DEFAULT 0,
    readings_count  BIGINT           NOT NULL DEFAULT 0,
    transitions     BIGINT           NOT NULL DEFAULT 0,
    -- JSON: the last row that its commits have seen; null before the first.
    position        TEXT,
    -- Why it failed.
    message         TEXT,
    PRIMARY KEY (run_id, name)
);

-- Those that have to go on after a restart, and those that are to be deleted: few among all.
CREATE INDEX analyses_at_work ON analyses (run_id, name) WHERE state IN ('running', 'deleting');
