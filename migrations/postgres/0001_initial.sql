-- Everything that gradwatch keeps.
--
-- Conventions: *_us are microseconds since the Unix epoch. Rows of the hot tables (steps, edge_readings, rollups) are only
-- ever inserted; what is inserted twice is a bug and fails. Texts are compared by their bytes (COLLATE "C"): no locale
-- of the database decides an order, and keys compare faster.
--
-- The hot tables are partitioned by run, so that no one table and index grows with the cluster, and have one index
-- each. They reference no segment by foreign key: that would cost a trigger and a look-up a row. The committing
-- transaction makes sure of it instead: it moves a mark of every segment that it stores rows of, and marks reference
-- segments; a segment without a mark moved is looked up. Deletion goes from children to parents.
--
-- Rows that every commit changes have room in their page for the next version (fillfactor), which then needs no change
-- of an index.

CREATE TABLE meta (
    only_row      BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    -- Sequence of the last commit.
    commit_seq    BIGINT NOT NULL,
    -- The last event id given. Kept here so that ids are never given again after a deletion.
    last_event_id BIGINT NOT NULL
) WITH (fillfactor = 10);

INSERT INTO meta (only_row, commit_seq, last_event_id) VALUES (1, 0, 0);

CREATE TABLE runs (
    run_id           UUID             NOT NULL PRIMARY KEY,
    project          TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    state            TEXT COLLATE "C" NOT NULL,
    regime           TEXT COLLATE "C" NOT NULL,
    created_at_us    BIGINT           NOT NULL,
    last_seen_us     BIGINT           NOT NULL,
    last_step        BIGINT,
    steps_count      BIGINT           NOT NULL DEFAULT 0,
    rejected_count   BIGINT           NOT NULL DEFAULT 0,
    dropped_count    BIGINT           NOT NULL DEFAULT 0,
    incomplete_count BIGINT           NOT NULL DEFAULT 0,
    nonfinite_count  BIGINT           NOT NULL DEFAULT 0,
    -- Raised by every taking of ownership; a commit names the epoch it believes in.
    owner_epoch      BIGINT           NOT NULL DEFAULT 0,
    -- The number of the owner's last commit; each names the one that must have come before it.
    owner_commits    BIGINT           NOT NULL DEFAULT 0,
    deleting         BOOLEAN          NOT NULL DEFAULT FALSE,
    -- JSON object of texts.
    labels           TEXT COLLATE "C" NOT NULL
) WITH (fillfactor = 50);

-- Apart from runs, because a config can be long and every commit rewrites the run's row.
CREATE TABLE run_configs (
    run_id UUID             NOT NULL PRIMARY KEY REFERENCES runs (run_id),
    -- JSON object.
    config TEXT COLLATE "C" NOT NULL
);

CREATE TABLE segments (
    run_id             UUID             NOT NULL REFERENCES runs (run_id),
    segment            BIGINT           NOT NULL,
    attempt_id         UUID             NOT NULL,
    started_at_us      BIGINT           NOT NULL,
    opened_at_us       BIGINT           NOT NULL,
    resumes_attempt_id UUID,
    resumes_step       BIGINT,
    shard_count        BIGINT           NOT NULL,
    environment        TEXT COLLATE "C" NOT NULL,
    -- JSON.
    spec               TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, segment),
    UNIQUE (run_id, attempt_id),
    CHECK ((resumes_attempt_id IS NULL) = (resumes_step IS NULL))
);

CREATE TABLE shard_marks (
    run_id        UUID             NOT NULL,
    segment       BIGINT           NOT NULL,
    shard         BIGINT           NOT NULL,
    writer_id     TEXT COLLATE "C" NOT NULL,
    committed_seq BIGINT           NOT NULL DEFAULT 0,
    keep_from_seq BIGINT           NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, segment, shard),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) WITH (fillfactor = 50);

CREATE TABLE steps (
    run_id             UUID             NOT NULL,
    segment            BIGINT           NOT NULL,
    step               BIGINT           NOT NULL,
    -- JSON array: seq per shard, null where a shard's part is missing.
    seqs               TEXT COLLATE "C" NOT NULL,
    wall_time_us       BIGINT           NOT NULL,
    received_at_us     BIGINT           NOT NULL,
    learning_rate      DOUBLE PRECISION,
    weight_decay       DOUBLE PRECISION,
    phase              BIGINT           NOT NULL,
    complete           BOOLEAN          NOT NULL,
    -- JSON object; "NaN", "Infinity" and "-Infinity" stand for what JSON numbers cannot say.
    scalars            TEXT COLLATE "C" NOT NULL,
    -- JSON array, null when empty.
    nonfinite_payloads TEXT COLLATE "C",
    PRIMARY KEY (run_id, segment, step)
) PARTITION BY HASH (run_id);

CREATE TABLE edge_readings (
    run_id                  UUID             NOT NULL,
    analysis                TEXT COLLATE "C" NOT NULL,
    group_name              TEXT COLLATE "C" NOT NULL,
    kind                    TEXT COLLATE "C" NOT NULL,
    "window"                BIGINT           NOT NULL,
    segment                 BIGINT           NOT NULL,
    step                    BIGINT           NOT NULL,
    regime                  TEXT COLLATE "C" NOT NULL,
    row_count               BIGINT           NOT NULL,
    -- Bits 0 to 2: overlap_1 to overlap_3 are unresolved. Bits 3, 4, 5: alpha, alpha_spectral, overlap are defined.
    flags                   BIGINT           NOT NULL,
    update_norm             DOUBLE PRECISION NOT NULL,
    norm_z                  DOUBLE PRECISION,
    -- Little-endian float64, one per row of the window.
    sigma                   BYTEA,
    modes                   BIGINT,
    position                BIGINT,
    position_plain          BIGINT,
    position_edge           BIGINT,
    position_edge_published BIGINT,
    ratio                   DOUBLE PRECISION,
    ratio_1                 DOUBLE PRECISION,
    ratio_2                 DOUBLE PRECISION,
    ratio_3                 DOUBLE PRECISION,
    gap                     DOUBLE PRECISION,
    gap23                   DOUBLE PRECISION,
    gap23_rel               DOUBLE PRECISION,
    gram_change             DOUBLE PRECISION,
    gram_change_spectral    DOUBLE PRECISION,
    adiabatic               DOUBLE PRECISION,
    instability             DOUBLE PRECISION,
    dk                      DOUBLE PRECISION,
    alpha_1                 DOUBLE PRECISION,
    alpha_2                 DOUBLE PRECISION,
    alpha_3                 DOUBLE PRECISION,
    alpha_spectral_1        DOUBLE PRECISION,
    alpha_spectral_2        DOUBLE PRECISION,
    alpha_spectral_3        DOUBLE PRECISION,
    overlap_1               DOUBLE PRECISION,
    overlap_2               DOUBLE PRECISION,
    overlap_3               DOUBLE PRECISION,
    drift                   DOUBLE PRECISION,
    pc1                     DOUBLE PRECISION,
    entropy_rank            DOUBLE PRECISION,
    participation           DOUBLE PRECISION,
    k95                     BIGINT,
    noise_edge              DOUBLE PRECISION,
    noise_edge_mean         DOUBLE PRECISION,
    bbp_ratio               DOUBLE PRECISION,
    gap_flow_rate           DOUBLE PRECISION,
    gap_flow_equilibrium    DOUBLE PRECISION,
    gap_flow_r2             DOUBLE PRECISION,
    PRIMARY KEY (run_id, analysis, group_name, kind, "window", segment, step)
) PARTITION BY HASH (run_id);

CREATE TABLE rollups (
    run_id       UUID             NOT NULL,
    analysis     TEXT COLLATE "C" NOT NULL,
    metric       TEXT COLLATE "C" NOT NULL,
    -- For scalars, which belong to no stream: '', '', 0.
    group_name   TEXT COLLATE "C" NOT NULL,
    kind         TEXT COLLATE "C" NOT NULL,
    "window"     BIGINT           NOT NULL,
    segment      BIGINT           NOT NULL,
    bucket_steps BIGINT           NOT NULL,
    bucket       BIGINT           NOT NULL,
    last_step    BIGINT           NOT NULL,
    min          DOUBLE PRECISION NOT NULL,
    max          DOUBLE PRECISION NOT NULL,
    last         DOUBLE PRECISION NOT NULL,
    count        BIGINT           NOT NULL,
    PRIMARY KEY (run_id, analysis, metric, group_name, kind, "window", segment, bucket_steps, bucket)
) PARTITION BY HASH (run_id);

CREATE TABLE events (
    event_id    BIGINT           NOT NULL PRIMARY KEY,
    run_id      UUID             NOT NULL,
    event_type  TEXT COLLATE "C" NOT NULL,
    segment     BIGINT           NOT NULL,
    step        BIGINT,
    at_us       BIGINT           NOT NULL,
    group_name  TEXT COLLATE "C",
    kind        TEXT COLLATE "C",
    "window"    BIGINT,
    from_regime TEXT COLLATE "C",
    to_regime   TEXT COLLATE "C",
    -- JSON object.
    evidence    TEXT COLLATE "C" NOT NULL,
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
);

CREATE INDEX events_of_run ON events (run_id, event_id);

-- The overview asks for the newest transitions of the whole cluster, which are few among all events.
CREATE INDEX events_regime ON events (event_id) WHERE event_type = 'edge.regime';

CREATE TABLE follower_snapshots (
    run_id     UUID             NOT NULL,
    segment    BIGINT           NOT NULL,
    -- For what follows the segment's scalars: '', '', 0.
    group_name TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    "window"   BIGINT           NOT NULL,
    step       BIGINT           NOT NULL,
    state      BYTEA            NOT NULL,
    PRIMARY KEY (run_id, segment, group_name, kind, "window"),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) WITH (fillfactor = 50);

-- Compressing states costs more than the disk they take.
ALTER TABLE follower_snapshots ALTER COLUMN state SET STORAGE EXTERNAL;

CREATE TABLE scalar_names (
    run_id UUID             NOT NULL REFERENCES runs (run_id),
    name   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, name)
);

DO $$
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format('CREATE TABLE steps_%s PARTITION OF steps FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                       remainder, remainder);
        EXECUTE format('CREATE TABLE edge_readings_%s PARTITION OF edge_readings
                            FOR VALUES WITH (MODULUS 16, REMAINDER %s)', remainder, remainder);
        EXECUTE format('CREATE TABLE rollups_%s PARTITION OF rollups FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                       remainder, remainder);
    END LOOP;
END
$$;

-- Who may do what. The token itself is nowhere: only its SHA-256, which finds it when it is shown.
CREATE TABLE tokens (
    token_id      UUID             NOT NULL PRIMARY KEY,
    -- Hexadecimal.
    hash          TEXT COLLATE "C" NOT NULL UNIQUE CHECK (length(hash) = 64),
    name          TEXT COLLATE "C" NOT NULL,
    -- The only project it is good for; null: all.
    project       TEXT COLLATE "C",
    -- JSON array of ingest, read, admin.
    scopes        TEXT COLLATE "C" NOT NULL,
    created_at_us BIGINT           NOT NULL,
    -- Null: never.
    expires_at_us BIGINT,
    -- A revoked token stays, so that it cannot be made again from the same text.
    revoked_at_us BIGINT
);
