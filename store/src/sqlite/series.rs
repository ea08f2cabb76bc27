//! Values of one edge metric over steps.

use futures_util::TryStreamExt as _;
use sqlx::{Row, sqlite::SqliteRow};

use super::{
    SqliteStore,
    codec::{self, bound_i64},
};
use crate::{
    error::StoreError,
    query::{SeriesPoint, SeriesQuery},
};

/// The statement that reads a column: one constant text for each, so that no name from outside ever gets near SQL.
macro_rules! statements {
    ($metric:expr; $($column:literal),* $(,)?) => {
        match $metric {
            $($column => Some(concat!(
                "SELECT step, ", $column, " AS value FROM edge_readings
                 WHERE run_id = ? AND analysis = ? AND group_name = ? AND kind = ? AND window = ? AND segment = ?
                   AND step BETWEEN ? AND ? AND ", $column, " IS NOT NULL
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
    )
}

/// Reads sigma_j out of the middle of the spectrum.
const SIGMA_STATEMENT: &str = "SELECT step, substr(sigma, ?9, 8) AS value FROM edge_readings
     WHERE run_id = ?1 AND analysis = ?2 AND group_name = ?3 AND kind = ?4 AND window = ?5 AND segment = ?6
       AND step BETWEEN ?7 AND ?8 AND length(sigma) >= ?9 + 7
     ORDER BY step";

/// How a metric is stored.
enum Source {
    /// In a column of its own.
    Column(&'static str),
    /// In the spectrum, behind this many bytes.
    Sigma { offset_bytes: i64 },
}

fn source(metric: &str) -> Option<Source> {
    if let Some(statement) = statement_of(metric) {
        return Some(Source::Column(statement));
    }
    let index: u32 = metric.strip_prefix("sigma_")?.parse().ok()?;
    Some(Source::Sigma { offset_bytes: 8 * i64::from(index.checked_sub(1)?) })
}

pub(super) async fn series(
    store: &SqliteStore,
    query: &SeriesQuery,
    metric: &str,
) -> Result<Vec<SeriesPoint>, StoreError> {
    let source = source(metric).ok_or_else(|| StoreError::Data(format!("metric: {metric:?} is not recorded")))?;
    let stream = query
        .stream
        .as_ref()
        .ok_or_else(|| StoreError::Data(format!("stream: {metric:?} belongs to a group, kind and window")))?;
    let mut snapshot = store.readers.begin().await?;
    let mut points = Vec::new();
    for range in &query.ranges {
        let sql = match source {
            Source::Column(statement) => statement,
            Source::Sigma { .. } => SIGMA_STATEMENT,
        };
        let mut statement = sqlx::query(sql)
            .bind(query.run_id.0.as_bytes().as_slice())
            .bind(query.analysis.as_str())
            .bind(stream.group.as_str())
            .bind(stream.kind.as_str())
            .bind(codec::size_i64(stream.window))
            .bind(range.segment)
            .bind(bound_i64(range.from_step))
            .bind(bound_i64(range.to_step));
        if let Source::Sigma { offset_bytes } = source {
            // substr counts from 1.
            statement = statement.bind(offset_bytes + 1);
        }
        // A stream, because a million rows of the driver would take far more memory than their points.
        let mut rows = statement.fetch(&mut *snapshot);
        while let Some(row) = rows.try_next().await? {
            points.push(SeriesPoint {
                segment: range.segment,
                step: codec::unsigned(&row, "step")?,
                value: value(&source, &row)?,
            });
        }
    }
    Ok(points)
}

fn value(source: &Source, row: &SqliteRow) -> Result<f64, StoreError> {
    match source {
        // Unchecked, because some columns are counts: those come as floats too.
        Source::Column(_) => Ok(row.try_get_unchecked("value")?),
        Source::Sigma { .. } => {
            let bytes: [u8; 8] = row
                .try_get::<&[u8], _>("value")?
                .try_into()
                .map_err(|_| StoreError::Data("column sigma: not of 8-byte floats".to_owned()))?;
            Ok(f64::from_le_bytes(bytes))
        }
    }
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
