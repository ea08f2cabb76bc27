//! A run of the benches: steps with two scalars, and wide readings.

use std::collections::BTreeMap;

use gradwatch_spectral::{detectors::Regime, edge::EdgeReading};
use gradwatch_store::{
    AttemptDeclaration, AttemptId, Encoding, FollowerKey, FollowerSnapshot, GroupSpec, Kind, LIVE_ANALYSIS, MarkMove,
    OpenAttempt, ReadingRow, RunCommit, RunCounters, RunDeclaration, RunId, RunPatch, StepRow, StreamKey, StreamSpec,
    TensorSpec,
};
use uuid::Uuid;

const WINDOW: usize = 10;

pub(crate) fn run_id(number: u64) -> RunId {
    RunId(Uuid::from_u64_pair(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number))
}

pub(crate) fn open(number: u64) -> OpenAttempt {
    OpenAttempt {
        run: RunDeclaration {
            run_id: run_id(number),
            project: "bench".to_owned(),
            name: format!("run {number}"),
            labels: BTreeMap::new(),
            config: serde_json::json!({}),
        },
        attempt: AttemptDeclaration {
            attempt_id: AttemptId(Uuid::from_u64_pair(1, number)),
            started_at_us: 0,
            resumes: None,
            unrelated: false,
            shard_count: 1,
            spec: StreamSpec {
                sketch_dim: 1024,
                sketch_seed: 1,
                encoding: Encoding::F32,
                window_lengths: vec![WINDOW],
                groups: vec![GroupSpec {
                    name: "all".to_owned(),
                    tensors: vec![TensorSpec { name: "w".to_owned(), elements: 1_000_000 }],
                }],
                kinds: vec![Kind::Update],
                update_interval: 1,
                layers: Vec::new(),
            },
        },
        shard: 0,
        writer_id: "bench".to_owned(),
        now_us: 0,
        environment: "bench".to_owned(),
    }
}

pub(crate) fn run_commit(number: u64, owner_epoch: u64, behind: u64, frames: u64) -> RunCommit {
    let steps = behind + 1..=behind + frames;
    RunCommit {
        run_id: run_id(number),
        owner_epoch,
        after_commit: behind,
        commit_number: behind + frames,
        marks: vec![MarkMove {
            segment: 1,
            shard: 0,
            from_seq: behind,
            to_seq: behind + frames,
            keep_from_seq: (behind + frames).saturating_sub(11),
        }],
        steps: steps.clone().map(step_row).collect(),
        readings: steps.map(reading_row).collect(),
        rollups: Vec::new(),
        events: Vec::new(),
        followers: vec![FollowerSnapshot {
            segment: 1,
            key: FollowerKey::Stream(stream()),
            step: behind + frames,
            state: vec![number as u8; 4096],
        }],
        scalar_names: Vec::new(),
        snapshots: Vec::new(),
        layer_readings: Vec::new(),
        predictions: Vec::new(),
        dropped_predictions: Vec::new(),
        sketches: Vec::new(),
        dropped_sketches: Vec::new(),
        patch: RunPatch {
            last_step: Some(behind + frames),
            last_seen_us: Some(behind as i64),
            counters: RunCounters { steps: frames, ..RunCounters::default() },
            ..RunPatch::default()
        },
    }
}

pub(crate) fn stream() -> StreamKey {
    StreamKey { group: "all".to_owned(), kind: Kind::Update, window: WINDOW }
}

pub(crate) fn step_row(step: u64) -> StepRow {
    StepRow {
        segment: 1,
        step,
        seqs: vec![Some(step)],
        wall_time_us: step as i64,
        received_at_us: step as i64,
        learning_rate: Some(3e-4),
        weight_decay: Some(0.1),
        phase: 0,
        complete: true,
        scalars: BTreeMap::from([("loss".to_owned(), 1.0 / (step as f64 + 0.3)), ("accuracy".to_owned(), 0.1)]),
        nonfinite_payloads: Vec::new(),
    }
}

pub(crate) fn reading_row(step: u64) -> ReadingRow {
    let x = 1.0 / (step as f64 + 0.7);
    let (float, count, triple) = (Some(x), Some(3), Some([Some(x), Some(x), None]));
    ReadingRow {
        analysis: LIVE_ANALYSIS.to_owned(),
        stream: stream(),
        segment: 1,
        step,
        regime: Regime::Plateau,
        edge: EdgeReading {
            window: WINDOW,
            rows: WINDOW as u32,
            update_norm: x,
            norm_z: float,
            sigma: Some(vec![x; WINDOW]),
            modes: count,
            position: count,
            position_plain: count,
            position_edge: count,
            position_edge_published: count,
            ratio: float,
            ratio_1: float,
            ratio_2: float,
            ratio_3: float,
            gap: float,
            gap23: float,
            gap23_rel: float,
            gram_change: float,
            gram_change_spectral: float,
            adiabatic: float,
            instability: float,
            dk: float,
            alpha: triple,
            alpha_spectral: triple,
            overlap: triple,
            overlap_unresolved: [false; 3],
            drift: float,
            pc1: float,
            entropy_rank: float,
            participation: float,
            k95: count,
            noise_edge: float,
            noise_edge_mean: float,
            bbp_ratio: float,
            gap_flow_rate: float,
            gap_flow_equilibrium: float,
            gap_flow_r2: float,
            // A job that does not send them is the rule.
            gap_flow_curvature: None,
            gap_flow_damping: None,
            gap_flow_driving: None,
            gap_flow_r2_unit: None,
            gap_flow_r2_free: None,
            loss_terms: None,
        },
    }
}
