-- Snapshots that were not read because too many waited.
ALTER TABLE runs ADD COLUMN skipped_count INTEGER NOT NULL DEFAULT 0;

-- Jobs that outlive the server: snapshots that were acknowledged and are still to be read. The key says which come first,
-- the oldest. With a rowid, because payloads are long.
CREATE TABLE pending_snapshots (
    run_id     BLOB    NOT NULL,
    segment    INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    instrument TEXT    NOT NULL,
    layer      TEXT    NOT NULL,
    payload    BLOB    NOT NULL,
    PRIMARY KEY (run_id, segment, step, instrument, layer),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT;

-- What the model said on probe batches. With a rowid, because they are long.
CREATE TABLE predictions (
    run_id   BLOB    NOT NULL,
    segment  INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    probe    TEXT    NOT NULL,
    -- Little-endian float32.
    "values" BLOB    NOT NULL,
    -- Little-endian float32; as many, or none.
    targets  BLOB    NOT NULL,
    PRIMARY KEY (run_id, segment, step, probe),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT;

-- Readings of layers, one table an instrument. Behind the key come the fields of the instrument's readings: number ANY,
-- count INTEGER, flag INTEGER, word TEXT, list BLOB of little-endian float64; null where undefined.

CREATE TABLE cascade_readings (
    run_id          BLOB    NOT NULL,
    layer           TEXT    NOT NULL,
    segment         INTEGER NOT NULL,
    step            INTEGER NOT NULL,
    reason          TEXT,
    windows         INTEGER,
    threshold       ANY,
    nest_dimension  ANY,
    nest_se         ANY,
    nest_z          ANY,
    nest_shuffled   ANY,
    phi             ANY,
    branching       ANY,
    duration        ANY,
    v_rel           ANY,
    whole_sites     INTEGER,
    whole_ln_size   ANY,
    whole_phi       ANY,
    whole_capped    INTEGER CHECK (whole_capped IN (0, 1)),
    PRIMARY KEY (run_id, layer, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE curvature_readings (
    run_id                   BLOB    NOT NULL,
    layer                    TEXT    NOT NULL,
    segment                  INTEGER NOT NULL,
    step                     INTEGER NOT NULL,
    reason                   TEXT,
    directions               INTEGER,
    k_eff                    INTEGER,
    exponent                 ANY,
    exponent_r2              ANY,
    exponent_se              ANY,
    rank_decay               ANY,
    rank_decay_r2            ANY,
    hessian_decay            ANY,
    hessian_decay_r2         ANY,
    transfer_error           ANY,
    transfer_null            ANY,
    beta                     ANY,
    phi_slope                ANY,
    chi_slope                ANY,
    exponent_common          ANY,
    concentration            ANY,
    participation            ANY,
    participation_zeta_ratio ANY,
    participation_gradient   ANY,
    rank_model               TEXT,
    negative                 INTEGER,
    r2_low                   INTEGER CHECK (r2_low IN (0, 1)),
    preconditioner           BLOB,
    PRIMARY KEY (run_id, layer, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_directions_readings (
    run_id                 BLOB    NOT NULL,
    layer                  TEXT    NOT NULL,
    segment                INTEGER NOT NULL,
    step                   INTEGER NOT NULL,
    reason                 TEXT,
    width                  INTEGER,
    samples                INTEGER,
    batch                  TEXT,
    lambda_min             ANY,
    logdet                 ANY,
    kept                   INTEGER,
    logdet_per_direction   ANY,
    sigma_min              ANY,
    sigma_min_kept         ANY,
    rank                   INTEGER,
    rank_deficient         INTEGER CHECK (rank_deficient IN (0, 1)),
    structural_correlation ANY,
    count_slope            ANY,
    count_gap              INTEGER,
    gap_nats               ANY,
    gauge_removed          INTEGER,
    few_samples            INTEGER CHECK (few_samples IN (0, 1)),
    is_float32             INTEGER CHECK (is_float32 IN (0, 1)),
    kept_changed           INTEGER CHECK (kept_changed IN (0, 1)),
    batch_changed          INTEGER CHECK (batch_changed IN (0, 1)),
    PRIMARY KEY (run_id, layer, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE learning_cell_readings (
    run_id             BLOB    NOT NULL,
    layer              TEXT    NOT NULL,
    segment            INTEGER NOT NULL,
    step               INTEGER NOT NULL,
    reason             TEXT,
    neurons            INTEGER,
    moment_order       ANY,
    moment_radius      ANY,
    moment_k           INTEGER,
    hill_index         ANY,
    heavy_tail         INTEGER CHECK (heavy_tail IN (0, 1)),
    moment_propagation INTEGER CHECK (moment_propagation IN (0, 1)),
    active_atoms       INTEGER,
    atom_rank          INTEGER,
    refit_curve        BLOB,
    atoms_at_2pct      INTEGER,
    orbit_depth        INTEGER,
    variety_depth      INTEGER,
    hermite_tail       ANY,
    path_norm          ANY,
    chaos_upper        ANY,
    PRIMARY KEY (run_id, layer, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
) STRICT, WITHOUT ROWID;

-- Terms of the gap's flow and of the loss, which only the job can send. In edge_readings.flags, bit 6: loss_terms is defined.
ALTER TABLE edge_readings ADD COLUMN gap_flow_curvature ANY;
ALTER TABLE edge_readings ADD COLUMN gap_flow_damping ANY;
ALTER TABLE edge_readings ADD COLUMN gap_flow_driving ANY;
ALTER TABLE edge_readings ADD COLUMN gap_flow_r2_unit ANY;
ALTER TABLE edge_readings ADD COLUMN gap_flow_r2_free ANY;
ALTER TABLE edge_readings ADD COLUMN loss_terms_1 ANY;
ALTER TABLE edge_readings ADD COLUMN loss_terms_2 ANY;
ALTER TABLE edge_readings ADD COLUMN loss_terms_3 ANY;
