-- Snapshots that were not read because too many waited.
ALTER TABLE runs ADD COLUMN skipped_count BIGINT NOT NULL DEFAULT 0;

-- Jobs that outlive the server: snapshots that were acknowledged and are still to be read. The key says which come first,
-- the oldest.
CREATE TABLE pending_snapshots (
    run_id     UUID             NOT NULL,
    segment    BIGINT           NOT NULL,
    step       BIGINT           NOT NULL,
    instrument TEXT COLLATE "C" NOT NULL,
    layer      TEXT COLLATE "C" NOT NULL,
    payload    BYTEA            NOT NULL,
    PRIMARY KEY (run_id, segment, step, instrument, layer),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
);

-- Arrays of floats do not compress.
ALTER TABLE pending_snapshots ALTER COLUMN payload SET STORAGE EXTERNAL;

-- What the model said on probe batches.
CREATE TABLE predictions (
    run_id   UUID             NOT NULL,
    segment  BIGINT           NOT NULL,
    step     BIGINT           NOT NULL,
    probe    TEXT COLLATE "C" NOT NULL,
    -- Little-endian float32.
    "values" BYTEA            NOT NULL,
    -- Little-endian float32; as many, or none.
    targets  BYTEA            NOT NULL,
    PRIMARY KEY (run_id, segment, step, probe),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
);

ALTER TABLE predictions ALTER COLUMN "values" SET STORAGE EXTERNAL, ALTER COLUMN targets SET STORAGE EXTERNAL;

-- Readings of layers, one table an instrument. Behind the key come the fields of the instrument's readings: number
-- DOUBLE PRECISION, count BIGINT, flag BOOLEAN, word TEXT, list BYTEA of little-endian float64; null where undefined. They
-- come on a slow schedule, so that their tables are not partitioned by run, as those of the hot rows are.

CREATE TABLE cascade_readings (
    run_id         UUID             NOT NULL,
    layer          TEXT COLLATE "C" NOT NULL,
    segment        BIGINT           NOT NULL,
    step           BIGINT           NOT NULL,
    reason         TEXT COLLATE "C",
    windows        BIGINT,
    threshold      DOUBLE PRECISION,
    nest_dimension DOUBLE PRECISION,
    nest_se        DOUBLE PRECISION,
    nest_z         DOUBLE PRECISION,
    nest_shuffled  DOUBLE PRECISION,
    phi            DOUBLE PRECISION,
    branching      DOUBLE PRECISION,
    duration       DOUBLE PRECISION,
    v_rel          DOUBLE PRECISION,
    whole_sites    BIGINT,
    whole_ln_size  DOUBLE PRECISION,
    whole_phi      DOUBLE PRECISION,
    whole_capped   BOOLEAN,
    PRIMARY KEY (run_id, layer, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
);

CREATE TABLE curvature_readings (
    run_id                   UUID             NOT NULL,
    layer                    TEXT COLLATE "C" NOT NULL,
    segment                  BIGINT           NOT NULL,
    step                     BIGINT           NOT NULL,
    reason                   TEXT COLLATE "C",
    directions               BIGINT,
    k_eff                    BIGINT,
    exponent                 DOUBLE PRECISION,
    exponent_r2              DOUBLE PRECISION,
    exponent_se              DOUBLE PRECISION,
    rank_decay               DOUBLE PRECISION,
    rank_decay_r2            DOUBLE PRECISION,
    hessian_decay            DOUBLE PRECISION,
    hessian_decay_r2         DOUBLE PRECISION,
    transfer_error           DOUBLE PRECISION,
    transfer_null            DOUBLE PRECISION,
    beta                     DOUBLE PRECISION,
    phi_slope                DOUBLE PRECISION,
    chi_slope                DOUBLE PRECISION,
    exponent_common          DOUBLE PRECISION,
    concentration            DOUBLE PRECISION,
    participation            DOUBLE PRECISION,
    participation_zeta_ratio DOUBLE PRECISION,
    participation_gradient   DOUBLE PRECISION,
    rank_model               TEXT COLLATE "C",
    negative                 BIGINT,
    r2_low                   BOOLEAN,
    preconditioner           BYTEA,
    PRIMARY KEY (run_id, layer, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
);

CREATE TABLE dead_directions_readings (
    run_id                 UUID             NOT NULL,
    layer                  TEXT COLLATE "C" NOT NULL,
    segment                BIGINT           NOT NULL,
    step                   BIGINT           NOT NULL,
    reason                 TEXT COLLATE "C",
    width                  BIGINT,
    samples                BIGINT,
    batch                  TEXT COLLATE "C",
    lambda_min             DOUBLE PRECISION,
    logdet                 DOUBLE PRECISION,
    kept                   BIGINT,
    logdet_per_direction   DOUBLE PRECISION,
    sigma_min              DOUBLE PRECISION,
    sigma_min_kept         DOUBLE PRECISION,
    rank                   BIGINT,
    rank_deficient         BOOLEAN,
    structural_correlation DOUBLE PRECISION,
    count_slope            DOUBLE PRECISION,
    count_gap              BIGINT,
    gap_nats               DOUBLE PRECISION,
    gauge_removed          BIGINT,
    few_samples            BOOLEAN,
    is_float32             BOOLEAN,
    kept_changed           BOOLEAN,
    batch_changed          BOOLEAN,
    PRIMARY KEY (run_id, layer, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
);

CREATE TABLE learning_cell_readings (
    run_id             UUID             NOT NULL,
    layer              TEXT COLLATE "C" NOT NULL,
    segment            BIGINT           NOT NULL,
    step               BIGINT           NOT NULL,
    reason             TEXT COLLATE "C",
    neurons            BIGINT,
    moment_order       DOUBLE PRECISION,
    moment_radius      DOUBLE PRECISION,
    moment_k           BIGINT,
    hill_index         DOUBLE PRECISION,
    heavy_tail         BOOLEAN,
    moment_propagation BOOLEAN,
    active_atoms       BIGINT,
    atom_rank          BIGINT,
    refit_curve        BYTEA,
    atoms_at_2pct      BIGINT,
    orbit_depth        BIGINT,
    variety_depth      BIGINT,
    hermite_tail       DOUBLE PRECISION,
    path_norm          DOUBLE PRECISION,
    chaos_upper        DOUBLE PRECISION,
    PRIMARY KEY (run_id, layer, segment, step),
    FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, segment)
);

-- Terms of the gap's flow and of the loss, which only the job can send. In edge_readings.flags, bit 6: loss_terms is defined.
ALTER TABLE edge_readings
    ADD COLUMN gap_flow_curvature DOUBLE PRECISION,
    ADD COLUMN gap_flow_damping DOUBLE PRECISION,
    ADD COLUMN gap_flow_driving DOUBLE PRECISION,
    ADD COLUMN gap_flow_r2_unit DOUBLE PRECISION,
    ADD COLUMN gap_flow_r2_free DOUBLE PRECISION,
    ADD COLUMN loss_terms_1 DOUBLE PRECISION,
    ADD COLUMN loss_terms_2 DOUBLE PRECISION,
    ADD COLUMN loss_terms_3 DOUBLE PRECISION;
