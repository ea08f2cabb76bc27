-- Everything that gradwatch keeps.
--
-- Conventions: run_id and attempt_id are 16-byte UUIDs; *_us are microseconds since the Unix epoch; floating-point
-- columns are ANY, not REAL, because a REAL column forgets the sign of −0.0 and readings must come back bit for bit.
-- Rows are only ever inserted; what is inserted twice is a bug and fails.

CREATE TABLE meta (
    only          INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    -- Sequence of the last commit.
    commit_seq    INTEGER NOT NULL,
    -- The last event id given. Kept here so that ids are never given again after a deletion.
    last_event_id INTEGER NOT NULL
) STRICT;

INSERT INTO meta (only, commit_seq, last_event_id) VALUES (1, 0, 0);

CREATE TABLE runs (
    run_id           BLOB    NOT NULL PRIMARY KEY,
    project          TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    regime           TEXT    NOT NULL,
    created_at_us    INTEGER NOT NULL,
    last_seen_us     INTEGER NOT NULL,
    last_step        INTEGER,
    steps_count      INTEGER NOT NULL DEFAULT 0,
    rejected_count   INTEGER NOT NULL DEFAULT 0,
    dropped_count    INTEGER NOT NULL DEFAULT 0,
    incomplete_count INTEGER NOT NULL DEFAULT 0,
    nonfinite_count  INTEGER NOT NULL DEFAULT 0,
    -- Raised by every taking of ownership; a commit names the epoch it believes in.
    owner_epoch      INTEGER NOT NULL DEFAULT 0,
    deleting         INTEGER NOT NULL DEFAULT 0 CHECK (deleting IN (0, 1)),
    -- JSON object of texts.
    labels           TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- Apart from runs, because a config can be long and every commit rewrites the run's row.
CREATE TABLE run_configs (
    run_id BLOB NOT NULL PRIMARY KEY REFERENCES runs (run_id),
    -- JSON object.
    config TEXT NOT NULL
) STRICT;

CREATE TABLE segments (
    run_id             BLOB    NOT NULL REFERENCES runs (run_id),
    segment            INTEGER NOT NULL,
    attempt_id         BLOB    NOT NULL,
    started_at_us      INTEGER NOT NULL,
    opened_at_us       INTEGER NOT NULL,
    resumes_attempt_id BLOB,
    resumes_step       INTEGER,
    shard_count        INTEGER NOT NULL,
    environment        TEXT    NOT NULL,
    -- JSON.
    spec               TEXT    NOT NULL,
    PRIMARY KEY (run_id, segment),
    UNIQUE (run_id, attempt_id),
    CHECK ((resumes_attempt_id IS NULL) = (resumes_step IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE shard_marks (
    run_id        BLOB    NOT NULL,
    segment       INTEGER NOT NULL,
    shard         INTEGER NOT NULL,
    writer_id     TEXT    NOT NULL,
    committed_seq INTEGER NOT NULL DEFAULT 0,
    keep_from_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, segment, shard),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE steps (
    run_id         BLOB    NOT NULL,
    segment        INTEGER NOT NULL,
    step           INTEGER NOT NULL,
    -- JSON array: seq per shard, null where a shard's part is missing.
    seqs           TEXT    NOT NULL,
    wall_time_us   INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    learning_rate  ANY,
    weight_decay   ANY,
    phase          INTEGER NOT NULL,
    complete       INTEGER NOT NULL CHECK (complete IN (0, 1)),
    -- JSON object; "NaN", "Infinity" and "-Infinity" stand for what JSON numbers cannot say.
    scalars        TEXT    NOT NULL,
    -- JSON array, null when empty.
    nonfinite_payloads TEXT,
    PRIMARY KEY (run_id, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE edge_readings (
    run_id                  BLOB    NOT NULL,
    analysis                TEXT    NOT NULL,
    group_name              TEXT    NOT NULL,
    kind                    TEXT    NOT NULL,
    window                  INTEGER NOT NULL,
    segment                 INTEGER NOT NULL,
    step                    INTEGER NOT NULL,
    regime                  TEXT    NOT NULL,
    row_count               INTEGER NOT NULL,
    -- Bits 0 to 2: overlap_1 to overlap_3 are unresolved. Bits 3, 4, 5: alpha, alpha_spectral, overlap are defined.
    flags                   INTEGER NOT NULL,
    update_norm             ANY     NOT NULL,
    norm_z                  ANY,
    -- Little-endian float64, one per row of the window.
    sigma                   BLOB,
    modes                   INTEGER,
    position                INTEGER,
    position_plain          INTEGER,
    position_edge           INTEGER,
    position_edge_published INTEGER,
    ratio                   ANY,
    ratio_1                 ANY,
    ratio_2                 ANY,
    ratio_3                 ANY,
    gap                     ANY,
    gap23                   ANY,
    gap23_rel               ANY,
    gram_change             ANY,
    gram_change_spectral    ANY,
    adiabatic               ANY,
    instability             ANY,
    dk                      ANY,
    alpha_1                 ANY,
    alpha_2                 ANY,
    alpha_3                 ANY,
    alpha_spectral_1        ANY,
    alpha_spectral_2        ANY,
    alpha_spectral_3        ANY,
    overlap_1               ANY,
    overlap_2               ANY,
    overlap_3               ANY,
    drift                   ANY,
    pc1                     ANY,
    entropy_rank            ANY,
    participation           ANY,
    k95                     INTEGER,
    noise_edge              ANY,
    noise_edge_mean         ANY,
    bbp_ratio               ANY,
    gap_flow_rate           ANY,
    gap_flow_equilibrium    ANY,
    gap_flow_r2             ANY,
    PRIMARY KEY (run_id, analysis, group_name, kind, window, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollups (
    run_id       BLOB    NOT NULL,
    analysis     TEXT    NOT NULL,
    metric       TEXT    NOT NULL,
    -- For scalars, which belong to no stream: '', '', 0.
    group_name   TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    window       INTEGER NOT NULL,
    segment      INTEGER NOT NULL,
    bucket_steps INTEGER NOT NULL,
    bucket       INTEGER NOT NULL,
    last_step    INTEGER NOT NULL,
    min          ANY     NOT NULL,
    max          ANY     NOT NULL,
    last         ANY     NOT NULL,
    count        INTEGER NOT NULL,
    PRIMARY KEY (run_id, analysis, metric, group_name, kind, window, segment, bucket_steps, bucket),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    event_id    INTEGER NOT NULL PRIMARY KEY,
    run_id      BLOB    NOT NULL,
    event_type  TEXT    NOT NULL,
    segment     INTEGER NOT NULL,
    step        INTEGER,
    at_us       INTEGER NOT NULL,
    group_name  TEXT,
    kind        TEXT,
    window      INTEGER,
    from_regime TEXT,
    to_regime   TEXT,
    -- JSON object.
    evidence    TEXT    NOT NULL,
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT;

CREATE INDEX events_of_run ON events (run_id, event_id);

-- The overview asks for the newest transitions of the whole cluster, which are few among all events.
CREATE INDEX events_regime ON events (event_id) WHERE event_type = 'edge.regime';

CREATE TABLE follower_snapshots (
    run_id     BLOB    NOT NULL,
    segment    INTEGER NOT NULL,
    -- For what follows the segment's scalars: '', '', 0.
    group_name TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    window     INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    state      BLOB    NOT NULL,
    PRIMARY KEY (run_id, segment, group_name, kind, window),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE scalar_names (
    run_id BLOB NOT NULL REFERENCES runs (run_id),
    name   TEXT NOT NULL,
    PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;
