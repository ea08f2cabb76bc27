//! Declarations and rows to store.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use gradwatch_spectral::{
    curvature::RankModel,
    dead_directions::BatchKind,
    detectors::{Bands, Regime},
    edge::{EdgeReading, PositionRule},
    layers::{FieldType, FieldValue, LayerInstrument, LayerReading, Reason},
    learning_cell::Activation,
};
use gradwatch_store::{
    AnalysisSpec, AttemptDeclaration, AttemptId, Encoding, EventRow, GroupSpec, Kind, LIVE_ANALYSIS, LayerKey,
    LayerReadingRow, LayerSpec, MarkMove, NewAnalysis, OpenAttempt, PendingSnapshot, PredictionRow, ReadingRow,
    ResumeFrom, Resumes, RollupRow, RunCommit, RunDeclaration, RunId, SnapshotKey, StepRow, Store, StreamKey,
    StreamSpec, TensorSpec, lineage::SegmentRange,
};
use uuid::Uuid;

pub(crate) type AnyStore = Arc<dyn Store>;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// Any finite float: every exponent, −0.0, whole numbers and subnormals among them.
    pub(crate) fn finite(&mut self) -> f64 {
        match self.below(8) {
            0 => -0.0,
            1 => 0.0,
            2 => self.below(1000) as f64,
            3 => f64::from_bits(self.below(1 << 52)),
            _ => loop {
                let value = f64::from_bits(self.bits());
                if value.is_finite() {
                    break value;
                }
            },
        }
    }

    pub(crate) fn finite_or_none(&mut self) -> Option<f64> {
        (self.below(4) > 0).then(|| self.finite())
    }

    pub(crate) fn count_or_none(&mut self) -> Option<u32> {
        (self.below(4) > 0).then(|| self.bits() as u32)
    }

    pub(crate) fn triple_or_none(&mut self) -> Option<[Option<f64>; 3]> {
        (self.below(4) > 0).then(|| std::array::from_fn(|_| self.finite_or_none()))
    }
}

pub(crate) fn run_id(run: u64) -> RunId {
    RunId(Uuid::from_u64_pair(Random(run).bits(), run))
}

pub(crate) fn attempt_id(attempt: u64) -> AttemptId {
    AttemptId(Uuid::from_u64_pair(7, attempt))
}

pub(crate) fn spec() -> StreamSpec {
    let group = |name: &str| GroupSpec {
        name: name.to_owned(),
        tensors: vec![TensorSpec { name: format!("{name}.weight"), elements: 1 << 40 }],
    };
    StreamSpec {
        sketch_dim: 1024,
        sketch_seed: u64::MAX - 1,
        encoding: Encoding::F16,
        window_lengths: vec![10, 20],
        groups: vec![group("all"), group("blocks.3.mlp")],
        kinds: vec![Kind::Update, Kind::Gradient],
        update_interval: 1,
        layers: Vec::new(),
    }
}

/// A layer of a segment.
pub(crate) fn layer(instrument: LayerInstrument, layer: &str) -> LayerKey {
    LayerKey { instrument, layer: layer.to_owned() }
}

/// The layers that [`open_layers`] declares: two of each instrument, called alike.
pub(crate) fn layer_specs() -> Vec<LayerSpec> {
    let spec = |instrument: LayerInstrument, name: &str| LayerSpec {
        name: name.to_owned(),
        instrument,
        width: (instrument == LayerInstrument::DeadDirections).then_some(64),
        activation: (instrument == LayerInstrument::LearningCell).then_some(Activation::Gelu),
    };
    LayerInstrument::ALL.iter().flat_map(|it| [spec(*it, "blocks.0"), spec(*it, "grüße \"1\"")]).collect()
}

/// As [`open`], with layers.
pub(crate) fn open_layers(run: u64) -> OpenAttempt {
    let mut open = open(run, run * 100);
    open.attempt.spec.layers = layer_specs();
    open
}

/// As [`owned`], of a run with layers.
pub(crate) async fn owned_layers(store: &AnyStore, run: u64) -> RunCommit {
    store.open_attempt(&open_layers(run)).await.unwrap();
    take(store, run).await
}

/// The words that a field can hold.
fn words(instrument: LayerInstrument, place: usize) -> Vec<&'static str> {
    let reasons = Reason::ALL.iter().map(|word| word.as_str());
    let models = RankModel::ALL.iter().map(|word| word.as_str());
    let batches = BatchKind::ALL.iter().map(|word| word.as_str());
    let holds = |word: &&'static str| {
        let value = |at| (at == place).then_some(FieldValue::Word(Cow::Borrowed(*word)));
        LayerReading::from_values(instrument, (0..instrument.fields().len()).map(value)).is_some()
    };
    let words: Vec<_> = reasons.chain(models).chain(batches).filter(holds).collect();
    assert!(!words.is_empty(), "{}: no word is known", instrument.fields()[place].name);
    words
}

/// A reading of which `is_there` says which fields are there, with everything drawn.
pub(crate) fn layer_reading_with(
    instrument: LayerInstrument,
    random: &mut Random,
    mut is_there: impl FnMut(&mut Random) -> bool,
) -> LayerReading {
    let mut values = Vec::new();
    for (place, field) in instrument.fields().iter().enumerate() {
        values.push(is_there(random).then(|| match field.field_type {
            FieldType::Number => FieldValue::Number(random.finite()),
            FieldType::Count => FieldValue::Count(random.bits() >> 1),
            FieldType::Flag => FieldValue::Flag(random.below(2) == 0),
            FieldType::Word => {
                let words = words(instrument, place);
                FieldValue::Word(Cow::Borrowed(words[random.below(words.len() as u64) as usize]))
            }
            FieldType::List => FieldValue::List((0..random.below(12)).map(|_| random.finite()).collect()),
        }));
    }
    LayerReading::from_values(instrument, values).unwrap()
}

/// A reading of a layer with everything drawn.
pub(crate) fn layer_reading(layer: &LayerKey, segment: u32, step: u64, random: &mut Random) -> LayerReadingRow {
    let reading = layer_reading_with(layer.instrument, random, |random| random.below(4) > 0);
    LayerReadingRow { layer: layer.clone(), segment, step, reading }
}

pub(crate) fn snapshot(layer: &LayerKey, segment: u32, step: u64, payload: &[u8]) -> PendingSnapshot {
    PendingSnapshot { key: SnapshotKey { segment, step, layer: layer.clone() }, payload: payload.to_vec() }
}

pub(crate) fn prediction(segment: u32, step: u64, probe: &str, values: &[f32], targets: &[f32]) -> PredictionRow {
    PredictionRow { segment, step, probe: probe.to_owned(), values: values.to_vec(), targets: targets.to_vec() }
}

/// The first attempt of a run of one shard.
pub(crate) fn open(run: u64, attempt: u64) -> OpenAttempt {
    OpenAttempt {
        run: RunDeclaration {
            run_id: run_id(run),
            project: "vision".to_owned(),
            name: format!("run {run}"),
            labels: BTreeMap::new(),
            config: serde_json::json!({"lr": 3e-4}),
        },
        attempt: AttemptDeclaration {
            attempt_id: attempt_id(attempt),
            started_at_us: 1_000 + attempt as i64,
            resumes: None,
            unrelated: false,
            shard_count: 1,
            spec: spec(),
        },
        shard: 0,
        writer_id: "writer".to_owned(),
        now_us: 5_000,
        environment: "0.1.0 avx2".to_owned(),
    }
}

/// An attempt that resumes another.
pub(crate) fn resume(run: u64, attempt: u64, resumed: u64, step: u64) -> OpenAttempt {
    let mut open = open(run, attempt);
    open.attempt.resumes = Some(ResumeFrom::Attempt(Resumes { attempt_id: attempt_id(resumed), step }));
    open
}

/// Opens the run's first attempt and takes the run; answers a commit of it that changes nothing.
pub(crate) async fn owned(store: &AnyStore, run: u64) -> RunCommit {
    store.open_attempt(&open(run, run * 100)).await.unwrap();
    take(store, run).await
}

/// Takes the run; answers a commit of it that changes nothing.
pub(crate) async fn take(store: &AnyStore, run: u64) -> RunCommit {
    empty(run, store.take_ownership(run_id(run)).await.unwrap().owner_epoch)
}

pub(crate) fn empty(run: u64, owner_epoch: u64) -> RunCommit {
    RunCommit::new(run_id(run), owner_epoch)
}

pub(crate) fn mark(segment: u32, from_seq: u64, to_seq: u64) -> MarkMove {
    MarkMove { segment, shard: 0, from_seq, to_seq, keep_from_seq: to_seq.saturating_sub(3) }
}

pub(crate) fn step(segment: u32, step: u64) -> StepRow {
    StepRow {
        segment,
        step,
        seqs: vec![Some(step)],
        wall_time_us: 1_700_000_000_000_000 + step as i64,
        received_at_us: 1_700_000_000_000_001 + step as i64,
        learning_rate: Some(3e-4),
        weight_decay: None,
        phase: 0,
        complete: true,
        scalars: BTreeMap::new(),
        nonfinite_payloads: Vec::new(),
    }
}

pub(crate) fn stream() -> StreamKey {
    StreamKey { group: "all".to_owned(), kind: Kind::Update, window: 10 }
}

/// A reading of stream [`stream`] with everything drawn.
pub(crate) fn reading(segment: u32, step: u64, random: &mut Random) -> ReadingRow {
    ReadingRow {
        analysis: LIVE_ANALYSIS.to_owned(),
        stream: stream(),
        segment,
        step,
        regime: Regime::ALL[random.below(4) as usize],
        edge: edge(10, random),
    }
}

pub(crate) fn edge(window: usize, random: &mut Random) -> EdgeReading {
    EdgeReading {
        window,
        rows: random.bits() as u32,
        update_norm: random.finite(),
        norm_z: random.finite_or_none(),
        sigma: (random.below(4) > 0).then(|| (0..random.below(12)).map(|_| random.finite()).collect()),
        modes: random.count_or_none(),
        position: random.count_or_none(),
        position_plain: random.count_or_none(),
        position_edge: random.count_or_none(),
        position_edge_published: random.count_or_none(),
        ratio: random.finite_or_none(),
        ratio_1: random.finite_or_none(),
        ratio_2: random.finite_or_none(),
        ratio_3: random.finite_or_none(),
        gap: random.finite_or_none(),
        gap23: random.finite_or_none(),
        gap23_rel: random.finite_or_none(),
        gram_change: random.finite_or_none(),
        gram_change_spectral: random.finite_or_none(),
        adiabatic: random.finite_or_none(),
        instability: random.finite_or_none(),
        dk: random.finite_or_none(),
        alpha: random.triple_or_none(),
        alpha_spectral: random.triple_or_none(),
        overlap: random.triple_or_none(),
        overlap_unresolved: std::array::from_fn(|_| random.below(2) == 0),
        drift: random.finite_or_none(),
        pc1: random.finite_or_none(),
        entropy_rank: random.finite_or_none(),
        participation: random.finite_or_none(),
        k95: random.count_or_none(),
        noise_edge: random.finite_or_none(),
        noise_edge_mean: random.finite_or_none(),
        bbp_ratio: random.finite_or_none(),
        gap_flow_rate: random.finite_or_none(),
        gap_flow_equilibrium: random.finite_or_none(),
        gap_flow_r2: random.finite_or_none(),
        gap_flow_curvature: random.finite_or_none(),
        gap_flow_damping: random.finite_or_none(),
        gap_flow_driving: random.finite_or_none(),
        gap_flow_r2_unit: random.finite_or_none(),
        gap_flow_r2_free: random.finite_or_none(),
        loss_terms: random.triple_or_none(),
    }
}

pub(crate) fn event(event_type: &str, segment: u32, step: Option<u64>) -> EventRow {
    EventRow {
        event_type: event_type.to_owned(),
        segment,
        step,
        at_us: 9_000,
        group: None,
        kind: None,
        window: None,
        from: None,
        to: None,
        evidence: serde_json::json!({}),
    }
}

pub(crate) fn rollup(metric: &str, segment: u32, bucket: u64) -> RollupRow {
    RollupRow {
        analysis: LIVE_ANALYSIS.to_owned(),
        metric: metric.to_owned(),
        stream: Some(stream()),
        segment,
        bucket_steps: 256,
        bucket,
        last_step: bucket * 256 + 250,
        min: -1.5,
        max: bucket as f64 + 0.1,
        last: -0.0,
        count: 251,
    }
}

/// An analysis of run 1 with windows of 10 and 32 rows.
pub(crate) fn wide_analysis(name: &str) -> NewAnalysis {
    let spec = AnalysisSpec {
        windows: vec![10, 32],
        position: PositionRule::Plain,
        bands: Bands::Absolute,
        group: None,
        kind: None,
        from_step: 0,
        to_step: 1 << 53,
    };
    NewAnalysis { run_id: run_id(1), name: name.to_owned(), spec, now_us: 77, max_analyses: 3 }
}

pub(crate) fn range(segment: u32, from_step: u64, to_step: u64) -> SegmentRange {
    SegmentRange { segment, from_step, to_step }
}

/// The whole of a segment.
pub(crate) fn whole(segment: u32) -> Vec<SegmentRange> {
    vec![range(segment, 0, u64::MAX)]
}

/// Text in which −0.0 differs from 0.0 and NaN equals NaN: Debug of a float reads back to the same bits.
pub(crate) fn exactly<T: std::fmt::Debug>(value: &T) -> String {
    format!("{value:?}")
}
