//! Readings of the edge instrument.

use gradwatch_spectral::edge::EdgeReading;

use super::rows;
use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, bound_i64, finite, to_i64},
    error::StoreError,
    model::{LIVE_ANALYSIS, Reading, ReadingRow, RunId, StreamSpec},
    query::{Page, ReadingQuery},
};

/// Bits of the column `flags`: which overlaps are unresolved, and which triples are defined at all (a triple can be
/// defined with nothing in it).
mod flag {
    pub(super) const OVERLAP_UNRESOLVED: [u8; 3] = [1, 2, 4];
    pub(super) const ALPHA: u8 = 8;
    pub(super) const ALPHA_SPECTRAL: u8 = 16;
    pub(super) const OVERLAP: u8 = 32;
    pub(super) const LOSS_TERMS: u8 = 64;
}

pub(super) fn encode((run_id, row): &(RunId, &ReadingRow), values: &mut impl Values) -> Result<(), StoreError> {
    let edge = &row.edge;
    if edge.window != row.stream.window {
        return Err(StoreError::Data(format!(
            "readings.window: a reading of window {} in a stream of window {}",
            edge.window, row.stream.window
        )));
    }
    values.uuid(run_id.0)?;
    values.text(row.analysis.as_str())?;
    values.text(row.stream.group.as_str())?;
    values.text(row.stream.kind.as_str())?;
    values.integer(codec::size_i64(row.stream.window))?;
    values.integer(i64::from(row.segment))?;
    values.integer(to_i64("readings.step", row.step)?)?;
    values.text(row.regime.as_str())?;
    values.integer(i64::from(edge.rows))?;
    values.integer(i64::from(flags(edge)))?;
    values.float(finite("readings.update_norm", edge.update_norm)?)?;
    push_finite(values, edge.norm_z)?;
    values.bytes(edge.sigma.as_deref().map(codec::floats_to_blob).as_deref())?;
    for count in
        [edge.modes, edge.position, edge.position_plain, edge.position_edge, edge.position_edge_published, edge.k95]
    {
        values.integer(count.map(i64::from))?;
    }
    let numbers = [
        edge.ratio,
        edge.ratio_1,
        edge.ratio_2,
        edge.ratio_3,
        edge.gap,
        edge.gap23,
        edge.gap23_rel,
        edge.gram_change,
        edge.gram_change_spectral,
        edge.adiabatic,
        edge.instability,
        edge.dk,
        edge.drift,
        edge.pc1,
        edge.entropy_rank,
        edge.participation,
        edge.noise_edge,
        edge.noise_edge_mean,
        edge.bbp_ratio,
        edge.gap_flow_rate,
        edge.gap_flow_equilibrium,
        edge.gap_flow_r2,
        edge.gap_flow_curvature,
        edge.gap_flow_damping,
        edge.gap_flow_driving,
        edge.gap_flow_r2_unit,
        edge.gap_flow_r2_free,
    ];
    let triples = [edge.alpha, edge.alpha_spectral, edge.overlap, edge.loss_terms].map(Option::unwrap_or_default);
    for number in numbers.into_iter().chain(triples.into_iter().flatten()) {
        push_finite(values, number)?;
    }
    Ok(())
}

fn push_finite(values: &mut impl Values, value: Option<f64>) -> Result<(), StoreError> {
    values.float(value.map(|value| finite("readings", value)).transpose()?)
}

fn flags(edge: &EdgeReading) -> u8 {
    let mut flags = 0;
    for (unresolved, bit) in edge.overlap_unresolved.into_iter().zip(flag::OVERLAP_UNRESOLVED) {
        flags |= if unresolved { bit } else { 0 };
    }
    let defined = [
        (edge.alpha.is_some(), flag::ALPHA),
        (edge.alpha_spectral.is_some(), flag::ALPHA_SPECTRAL),
        (edge.overlap.is_some(), flag::OVERLAP),
        (edge.loss_terms.is_some(), flag::LOSS_TERMS),
    ];
    for (defined, bit) in defined {
        flags |= if defined { bit } else { 0 };
    }
    flags
}

/// A row of `edge_readings` with `wall_time_us` of its step.
fn reading(row: &impl Columns) -> Result<Reading, StoreError> {
    let stream = rows::stream(row)?;
    let segment = codec::unsigned(row, "segment")?;
    let step = codec::unsigned(row, "step")?;
    let Some(wall_time_us) = row.integer("wall_time_us")? else {
        return Err(StoreError::Data(format!("segment {segment} has a reading, but no step {step}")));
    };
    Ok(Reading {
        row: ReadingRow {
            analysis: codec::string(row, "analysis")?,
            segment,
            step,
            regime: codec::word(row, "regime")?,
            edge: edge(row, stream.window)?,
            stream,
        },
        wall_time_us,
    })
}

fn edge(row: &impl Columns, window: usize) -> Result<EdgeReading, StoreError> {
    let flags: u8 = codec::unsigned(row, "flags")?;
    let number = |column: &str| row.float(column);
    let count = |column: &str| codec::unsigned_or_null::<u32>(row, column);
    let triple = |bit: u8, columns: [&str; 3]| -> Result<Option<[Option<f64>; 3]>, StoreError> {
        let [first, second, third] = columns.map(number);
        let triple = [first?, second?, third?];
        Ok((flags & bit != 0).then_some(triple))
    };
    let sigma = row.bytes("sigma")?;
    Ok(EdgeReading {
        window,
        rows: codec::unsigned(row, "row_count")?,
        update_norm: codec::float(row, "update_norm")?,
        norm_z: number("norm_z")?,
        sigma: sigma.map(|blob| codec::floats_from_blob("sigma", blob)).transpose()?,
        modes: count("modes")?,
        position: count("position")?,
        position_plain: count("position_plain")?,
        position_edge: count("position_edge")?,
        position_edge_published: count("position_edge_published")?,
        ratio: number("ratio")?,
        ratio_1: number("ratio_1")?,
        ratio_2: number("ratio_2")?,
        ratio_3: number("ratio_3")?,
        gap: number("gap")?,
        gap23: number("gap23")?,
        gap23_rel: number("gap23_rel")?,
        gram_change: number("gram_change")?,
        gram_change_spectral: number("gram_change_spectral")?,
        adiabatic: number("adiabatic")?,
        instability: number("instability")?,
        dk: number("dk")?,
        alpha: triple(flag::ALPHA, ["alpha_1", "alpha_2", "alpha_3"])?,
        alpha_spectral: triple(flag::ALPHA_SPECTRAL, ["alpha_spectral_1", "alpha_spectral_2", "alpha_spectral_3"])?,
        overlap: triple(flag::OVERLAP, ["overlap_1", "overlap_2", "overlap_3"])?,
        overlap_unresolved: flag::OVERLAP_UNRESOLVED.map(|bit| flags & bit != 0),
        drift: number("drift")?,
        pc1: number("pc1")?,
        entropy_rank: number("entropy_rank")?,
        participation: number("participation")?,
        k95: count("k95")?,
        noise_edge: number("noise_edge")?,
        noise_edge_mean: number("noise_edge_mean")?,
        bbp_ratio: number("bbp_ratio")?,
        gap_flow_rate: number("gap_flow_rate")?,
        gap_flow_equilibrium: number("gap_flow_equilibrium")?,
        gap_flow_r2: number("gap_flow_r2")?,
        gap_flow_curvature: number("gap_flow_curvature")?,
        gap_flow_damping: number("gap_flow_damping")?,
        gap_flow_driving: number("gap_flow_driving")?,
        gap_flow_r2_unit: number("gap_flow_r2_unit")?,
        gap_flow_r2_free: number("gap_flow_r2_free")?,
        loss_terms: triple(flag::LOSS_TERMS, ["loss_terms_1", "loss_terms_2", "loss_terms_3"])?,
    })
}

pub(super) async fn readings(backend: &impl Backend, query: &ReadingQuery) -> Result<Page<Reading>, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let mut items = Vec::new();
    for range in &query.ranges {
        // One more than wanted tells whether there are more.
        let wanted = query.limit.saturating_add(1) - items.len();
        let select = Statement::new(
            "SELECT edge_readings.*, steps.wall_time_us FROM edge_readings LEFT JOIN steps USING (run_id, segment, step)
             WHERE run_id = $1 AND analysis = $2 AND group_name = $3 AND kind = $4 AND \"window\" = $5 AND segment = $6
               AND step BETWEEN $7 AND $8
             ORDER BY step LIMIT $9",
        );
        let select = select
            .bind(query.run_id)
            .bind(query.analysis.as_str())
            .bind(query.stream.group.as_str())
            .bind(query.stream.kind.as_str())
            .bind(codec::size_i64(query.stream.window))
            .bind(range.segment)
            .bind(bound_i64(range.from_step))
            .bind(bound_i64(range.to_step))
            .bind(codec::size_i64(wanted));
        for row in &snapshot.fetch_all(select).await? {
            items.push(reading(row)?);
        }
        if items.len() > query.limit {
            break;
        }
    }
    let more = items.len() > query.limit;
    items.truncate(query.limit);
    Ok(Page { items, more })
}

/// The streams come from the segment's spec: each is then one look at the end of its key range.
pub(super) async fn latest_readings<B: Backend>(
    backend: &B,
    run_id: RunId,
    segment: u32,
) -> Result<Vec<Reading>, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let select = Statement::new("SELECT spec FROM segments WHERE run_id = $1 AND segment = $2");
    let declared = snapshot.fetch_optional(select.bind(run_id).bind(segment)).await?;
    let Some(declared) = declared else { return Ok(Vec::new()) };
    let spec: StreamSpec = codec::json(&declared, "spec")?;
    let streams: Vec<_> = spec
        .groups
        .iter()
        .flat_map(|group| spec.kinds.iter().map(move |kind| (group, kind)))
        .flat_map(|(group, kind)| spec.window_lengths.iter().map(move |window| (&group.name, kind.as_str(), window)))
        .collect();
    let select = Statement::new(B::DIALECT.latest_readings)
        .bind(run_id)
        .bind(segment)
        .bind(LIVE_ANALYSIS)
        .bind(codec::to_json("streams", &streams)?);
    snapshot.fetch_all(select).await?.iter().map(reading).collect()
}
