//! Values of one edge metric over steps.

use crate::{
    backend::{Access, Backend, Columns, Session, Statement},
    codec::{self, bound_i64},
    error::StoreError,
    query::{SeriesPoint, SeriesQuery},
};

/// The statement that reads a column: one constant text for each, so that no name from outside ever gets near SQL.
macro_rules! statements {
    ($metric:expr; $($column:literal),* $(,)?) => {
        match $metric {
            $($column => Some(concat!(
                "SELECT step, ", $column, " AS value FROM edge_readings
                 WHERE run_id = $1 AND analysis = $2 AND group_name = $3 AND kind = $4 AND \"window\" = $5
                   AND segment = $6 AND step BETWEEN $7 AND $8 AND ", $column, " IS NOT NULL
                 ORDER BY step"
            )),)*
            _ => None,
        }
    };
}

fn statement_of(metric: &str) -> Option<&'static str> {
    statements!(
        metric;
        "update_norm", "norm_z", "modes", "position", "position_plain", "position_edge", "position_edge_published",
        "ratio", "ratio_1", "ratio_2", "ratio_3", "gap", "gap23", "gap23_rel", "gram_change", "gram_change_spectral",
        "adiabatic", "instability", "dk", "alpha_1", "alpha_2", "alpha_3", "alpha_spectral_1", "alpha_spectral_2",
        "alpha_spectral_3", "overlap_1", "overlap_2", "overlap_3", "drift", "pc1", "entropy_rank", "participation",
        "k95", "noise_edge", "noise_edge_mean", "bbp_ratio", "gap_flow_rate", "gap_flow_equilibrium", "gap_flow_r2",
        "gap_flow_curvature", "gap_flow_damping", "gap_flow_driving", "gap_flow_r2_unit", "gap_flow_r2_free",
        "loss_terms_1", "loss_terms_2", "loss_terms_3",
    )
}

/// Reads the spectrum whole: PostgreSQL would have to detoast it for a part of it, too.
const SIGMA_STATEMENT: &str = "SELECT step, sigma FROM edge_readings
     WHERE run_id = $1 AND analysis = $2 AND group_name = $3 AND kind = $4 AND \"window\" = $5 AND segment = $6
       AND step BETWEEN $7 AND $8 AND sigma IS NOT NULL
     ORDER BY step";

/// How a metric is stored.
enum Source {
    /// In a column of floats.
    Float(&'static str),
    /// In a column of counts.
    Count(&'static str),
    /// In the spectrum, at this place.
    Sigma { index: usize },
}

/// Metrics that are counts.
pub(super) const COUNTS: [&str; 6] =
    ["modes", "position", "position_plain", "position_edge", "position_edge_published", "k95"];

fn source(metric: &str) -> Option<Source> {
    if let Some(statement) = statement_of(metric) {
        return Some(if COUNTS.contains(&metric) { Source::Count(statement) } else { Source::Float(statement) });
    }
    Some(Source::Sigma { index: sigma_index(metric)? })
}

/// The place of `sigma_j` in the spectrum.
pub(super) fn sigma_index(metric: &str) -> Option<usize> {
    let number: usize = metric.strip_prefix("sigma_")?.parse().ok()?;
    number.checked_sub(1)
}

pub(super) async fn series(
    backend: &impl Backend,
    query: &SeriesQuery,
    metric: &str,
) -> Result<Vec<SeriesPoint>, StoreError> {
    let source = source(metric).ok_or_else(|| StoreError::Data(format!("metric: {metric:?} is not recorded")))?;
    let stream = query
        .stream
        .as_ref()
        .ok_or_else(|| StoreError::Data(format!("stream: {metric:?} belongs to a group, kind and window")))?;
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let mut points = Vec::new();
    for range in &query.ranges {
        let select = Statement::new(match source {
            Source::Float(statement) | Source::Count(statement) => statement,
            Source::Sigma { .. } => SIGMA_STATEMENT,
        });
        let select = select
            .bind(query.run_id)
            .bind(query.analysis.as_str())
            .bind(stream.group.as_str())
            .bind(stream.kind.as_str())
            .bind(codec::size_i64(stream.window))
            .bind(range.segment)
            .bind(bound_i64(range.from_step))
            .bind(bound_i64(range.to_step));
        snapshot
            .for_each(select, |row| {
                if let Some(value) = value(&source, row)? {
                    points.push(SeriesPoint { segment: range.segment, step: codec::unsigned(row, "step")?, value });
                }
                Ok(())
            })
            .await?;
    }
    Ok(points)
}

/// The value of a row, unless its spectrum is too short to have it.
fn value(source: &Source, row: &impl Columns) -> Result<Option<f64>, StoreError> {
    match source {
        Source::Float(_) => row.float("value"),
        Source::Count(_) => Ok(row.integer("value")?.map(|count| count as f64)),
        Source::Sigma { index } => sigma_value(codec::present("sigma", row.bytes("sigma")?)?, *index),
    }
}

/// A singular value of a spectrum, unless it is too short to have it.
pub(super) fn sigma_value(spectrum: &[u8], index: usize) -> Result<Option<f64>, StoreError> {
    let (sigma, rest) = spectrum.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(StoreError::Data("column sigma: not of 8-byte floats".to_owned()));
    }
    Ok(sigma.get(index).map(|bytes| f64::from_le_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use gradwatch_spectral::catalogue::EDGE_METRICS;

    use super::*;

    #[test]
    fn every_metric_of_the_catalogue_is_recorded() {
        for metric in EDGE_METRICS {
            assert!(source(metric.short).is_some(), "{}", metric.short);
        }
        for unknown in ["", "sigma_0", "sigma_", "sigma_x", "ratio; --", "step"] {
            assert!(source(unknown).is_none(), "{unknown}");
        }
    }
}
