//! A reading, as JSON and as a line of CSV.

use std::fmt::Write;

use gradwatch_spectral::catalogue::EDGE_METRICS;
use gradwatch_store::{Reading, ReadingRow};
use serde::Serialize;
use utoipa::ToSchema;

use super::time::Time;

/// What the edge instrument says of one stream at one step. `/docs#metrics` defines every reading; what is undefined
/// is null, never 0 or infinity.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadingView {
    step: u64,
    segment: u32,
    /// W, in rows.
    window: usize,
    /// The client's clock at the step.
    wall_time: Time,
    /// The regime held after this reading.
    regime: &'static str,
    /// Rows in the window.
    rows: u32,
    /// The window holds fewer than W rows.
    warming: bool,
    update_norm: f64,
    norm_z: Option<f64>,
    /// The whole spectrum, W values.
    sigma: Option<Vec<f64>>,
    modes: Option<u32>,
    position: Option<u32>,
    position_plain: Option<u32>,
    position_edge: Option<u32>,
    position_edge_published: Option<u32>,
    ratio: Option<f64>,
    ratio_1: Option<f64>,
    ratio_2: Option<f64>,
    ratio_3: Option<f64>,
    gap: Option<f64>,
    gap23: Option<f64>,
    gap23_rel: Option<f64>,
    gram_change: Option<f64>,
    gram_change_spectral: Option<f64>,
    adiabatic: Option<f64>,
    instability: Option<f64>,
    dk: Option<f64>,
    /// `alpha_1`, `alpha_2`, `alpha_3`.
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    alpha: Option<[Option<f64>; 3]>,
    /// `alpha_spectral_1`, `alpha_spectral_2`, `alpha_spectral_3`.
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    alpha_spectral: Option<[Option<f64>; 3]>,
    /// `overlap_1`, `overlap_2`, `overlap_3`.
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    overlap: Option<[Option<f64>; 3]>,
    /// Whether each overlap means nothing because its eigenvalue is nearly equal to a neighbour.
    #[schema(value_type = Vec<bool>)]
    unresolved: [bool; 3],
    drift: Option<f64>,
    pc1: Option<f64>,
    entropy_rank: Option<f64>,
    participation: Option<f64>,
    k95: Option<u32>,
    noise_edge: Option<f64>,
    noise_edge_mean: Option<f64>,
    bbp_ratio: Option<f64>,
    gap_flow_rate: Option<f64>,
    gap_flow_equilibrium: Option<f64>,
    gap_flow_r2: Option<f64>,
    /// Where the job sends edge terms, as those that follow.
    gap_flow_curvature: Option<f64>,
    gap_flow_damping: Option<f64>,
    gap_flow_driving: Option<f64>,
    gap_flow_r2_unit: Option<f64>,
    gap_flow_r2_free: Option<f64>,
    /// `loss_terms_1`, `loss_terms_2`, `loss_terms_3`.
    #[schema(value_type = Option<Vec<Option<f64>>>)]
    loss_terms: Option<[Option<f64>; 3]>,
}

impl ReadingView {
    pub(crate) fn new(row: &ReadingRow, wall_time_us: i64) -> Self {
        let edge = &row.edge;
        Self {
            step: row.step,
            segment: row.segment,
            window: row.stream.window,
            wall_time: Time(wall_time_us),
            regime: row.regime.as_str(),
            rows: edge.rows,
            warming: edge.is_warming(),
            update_norm: edge.update_norm,
            norm_z: edge.norm_z,
            sigma: edge.sigma.clone(),
            modes: edge.modes,
            position: edge.position,
            position_plain: edge.position_plain,
            position_edge: edge.position_edge,
            position_edge_published: edge.position_edge_published,
            ratio: edge.ratio,
            ratio_1: edge.ratio_1,
            ratio_2: edge.ratio_2,
            ratio_3: edge.ratio_3,
            gap: edge.gap,
            gap23: edge.gap23,
            gap23_rel: edge.gap23_rel,
            gram_change: edge.gram_change,
            gram_change_spectral: edge.gram_change_spectral,
            adiabatic: edge.adiabatic,
            instability: edge.instability,
            dk: edge.dk,
            alpha: edge.alpha,
            alpha_spectral: edge.alpha_spectral,
            overlap: edge.overlap,
            unresolved: edge.overlap_unresolved,
            drift: edge.drift,
            pc1: edge.pc1,
            entropy_rank: edge.entropy_rank,
            participation: edge.participation,
            k95: edge.k95,
            noise_edge: edge.noise_edge,
            noise_edge_mean: edge.noise_edge_mean,
            bbp_ratio: edge.bbp_ratio,
            gap_flow_rate: edge.gap_flow_rate,
            gap_flow_equilibrium: edge.gap_flow_equilibrium,
            gap_flow_r2: edge.gap_flow_r2,
            gap_flow_curvature: edge.gap_flow_curvature,
            gap_flow_damping: edge.gap_flow_damping,
            gap_flow_driving: edge.gap_flow_driving,
            gap_flow_r2_unit: edge.gap_flow_r2_unit,
            gap_flow_r2_free: edge.gap_flow_r2_free,
            loss_terms: edge.loss_terms,
        }
    }
}

/// The columns of a table of readings: one value a column, `sigma_1` to `sigma_W`.
#[derive(Debug)]
pub(crate) struct Columns {
    /// (name, whether it is a count)
    readings: Vec<(String, bool)>,
}

const KEY_COLUMNS: [&str; 7] = ["step", "segment", "window", "wall_time", "regime", "rows", "warming"];

impl Columns {
    /// For readings of a window of W rows.
    pub(crate) fn new(window: usize) -> Self {
        let mut readings = Vec::new();
        for metric in EDGE_METRICS {
            match metric.short {
                "sigma_1" => readings.extend((1..=window).map(|j| (format!("sigma_{j}"), false))),
                short if short.starts_with("sigma_") => {}
                short => readings.push((short.to_owned(), metric.unit == "count")),
            }
        }
        Self { readings }
    }

    /// The first line.
    pub(crate) fn header(&self) -> String {
        let readings = self.readings.iter().map(|(name, _)| name.as_str());
        let names = KEY_COLUMNS.into_iter().chain(readings).chain(["unresolved_1", "unresolved_2", "unresolved_3"]);
        names.collect::<Vec<_>>().join(",") + "\n"
    }

    /// Appends a line. What is undefined is an empty field; no field needs quotes.
    pub(crate) fn line(&self, reading: &Reading, text: &mut String) {
        let (row, edge) = (&reading.row, &reading.row.edge);
        let key = format!(
            "{},{},{},{},{},{},{}",
            row.step,
            row.segment,
            row.stream.window,
            Time(reading.wall_time_us).text(),
            row.regime,
            edge.rows,
            edge.is_warming()
        );
        text.push_str(&key);
        for (name, is_count) in &self.readings {
            text.push(',');
            // Writing to a String cannot fail.
            let _ = match edge.value(name) {
                Some(value) if *is_count => write!(text, "{value}"),
                Some(value) => write!(text, "{value:?}"),
                None => Ok(()),
            };
        }
        for unresolved in edge.overlap_unresolved {
            text.push(',');
            text.push_str(if unresolved { "true" } else { "false" });
        }
        text.push('\n');
    }
}
