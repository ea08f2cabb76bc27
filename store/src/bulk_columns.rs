//! The columns of the rows that are inserted many at a time, in the order in which [`crate::sql`] gives their values.

/// The columns of a table as a literal, for `concat!`.
macro_rules! bulk_columns {
    (steps) => {
        "run_id, segment, step, seqs, wall_time_us, received_at_us, learning_rate, weight_decay, phase, complete,
         scalars, nonfinite_payloads"
    };
    (edge_readings) => {
        "run_id, analysis, group_name, kind, \"window\", segment, step, regime, row_count, flags, update_norm, norm_z,
         sigma, modes, position, position_plain, position_edge, position_edge_published, k95,
         ratio, ratio_1, ratio_2, ratio_3, gap, gap23, gap23_rel, gram_change, gram_change_spectral, adiabatic,
         instability, dk, drift, pc1, entropy_rank, participation, noise_edge, noise_edge_mean, bbp_ratio,
         gap_flow_rate, gap_flow_equilibrium, gap_flow_r2, gap_flow_curvature, gap_flow_damping, gap_flow_driving,
         gap_flow_r2_unit, gap_flow_r2_free,
         alpha_1, alpha_2, alpha_3, alpha_spectral_1, alpha_spectral_2, alpha_spectral_3,
         overlap_1, overlap_2, overlap_3, loss_terms_1, loss_terms_2, loss_terms_3"
    };
    (rollups) => {
        "run_id, analysis, metric, group_name, kind, \"window\", segment, bucket_steps, bucket, last_step,
         min, max, last, count"
    };
    (events) => {
        "event_id, run_id, event_type, segment, step, at_us, group_name, kind, \"window\", from_regime, to_regime,
         evidence"
    };
    (follower_snapshots) => {
        "run_id, segment, group_name, kind, \"window\", step, state"
    };
    (scalar_names) => {
        "run_id, name"
    };
    (pending_snapshots) => {
        "run_id, segment, step, instrument, layer, payload"
    };
    (predictions) => {
        "run_id, segment, step, probe, \"values\", targets"
    };
    (sketch_blocks) => {
        "run_id, group_name, kind, segment, first_step, last_step, row_count, payload"
    };
    (alert_cursors) => {
        "run_id, lane, segment, step, event_id, number, run_owner_epoch, run_owner_commits"
    };
    (alerts) => {
        "alert_id, rule_id, rule_name, rule_revision, lane, run_id, project, group_name, state, severity, labels,
         annotations, summary, receivers, term_values, pending_segment, pending_step, pending_at_us,
         fired_segment, fired_step, fired_at_us, resolved_segment, resolved_step, resolved_at_us, resolved_reason,
         machine"
    };
    // What an alert that is there becomes: all that its rule, its run and its place do not fix.
    (update_alert) => {
        "ON CONFLICT (alert_id) DO UPDATE SET
             rule_name = excluded.rule_name, rule_revision = excluded.rule_revision, state = excluded.state,
             severity = excluded.severity, labels = excluded.labels, annotations = excluded.annotations,
             summary = excluded.summary, receivers = excluded.receivers, term_values = excluded.term_values,
             pending_segment = excluded.pending_segment, pending_step = excluded.pending_step,
             pending_at_us = excluded.pending_at_us, fired_segment = excluded.fired_segment,
             fired_step = excluded.fired_step, fired_at_us = excluded.fired_at_us,
             resolved_segment = excluded.resolved_segment, resolved_step = excluded.resolved_step,
             resolved_at_us = excluded.resolved_at_us, resolved_reason = excluded.resolved_reason,
             machine = excluded.machine"
    };
    (alert_notifications) => {
        "receiver, group_key, alert_id, state, content, created_at_us"
    };
}

pub(crate) use bulk_columns;
