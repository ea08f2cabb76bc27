//! Values for rules: only the columns that they name.

use gradwatch_spectral::{catalogue::EDGE_METRICS, layers::FieldInfo};

use super::super::{layer_readings, series};
use crate::{
    backend::{Access, Backend, Columns, Session, Statement},
    codec::{self, bound_i64},
    error::StoreError,
    layer_table,
    lineage::SegmentRange,
    model::{LIVE_ANALYSIS, LayerKey, StreamKey},
    query::{ValuesQuery, ValuesRow, ValuesSource},
};

/// How a metric of a stream is stored.
enum EdgeColumn {
    Float(&'static str),
    Count(&'static str),
    /// In the spectrum, at this place.
    Sigma(usize),
}

/// Where values come from. Invariant: every name in here that gets into SQL is a constant of ours; what was asked for only
/// chose among them.
enum Source<'q> {
    Stream(&'q StreamKey, Vec<EdgeColumn>),
    Layer(&'q LayerKey, Vec<&'static FieldInfo>),
    Steps(&'q [String]),
}

impl<'q> Source<'q> {
    fn of(source: &'q ValuesSource) -> Result<Self, StoreError> {
        Ok(match source {
            ValuesSource::Stream(stream, metrics) => {
                let columns = metrics.iter().map(|metric| edge_column(metric));
                Self::Stream(stream, columns.collect::<Result<_, _>>()?)
            }
            ValuesSource::Layer(layer, names) => {
                let fields = names.iter().map(|name| layer_readings::chartable_field(layer.instrument, name));
                Self::Layer(layer, fields.collect::<Result<_, _>>()?)
            }
            ValuesSource::Steps(names) => Self::Steps(names),
        })
    }

    /// The statement up to what is asked of the step.
    fn select<'a>(&'a self, query: &ValuesQuery) -> Statement<'a> {
        match self {
            Self::Stream(stream, columns) => {
                let mut select = Statement::new("SELECT step");
                for column in columns {
                    match column {
                        EdgeColumn::Float(name) | EdgeColumn::Count(name) => select.push(", ").push(name),
                        EdgeColumn::Sigma(_) => select.push(", sigma"),
                    };
                }
                select.push(" FROM edge_readings WHERE run_id = ").push_bind(query.run_id);
                select.push(" AND analysis = ").push_bind(LIVE_ANALYSIS);
                select.push(" AND group_name = ").push_bind(stream.group.as_str());
                select.push(" AND kind = ").push_bind(stream.kind.as_str());
                select.push(" AND \"window\" = ").push_bind(codec::size_i64(stream.window));
                select
            }
            Self::Layer(layer, fields) => {
                let mut select = Statement::new("SELECT step");
                for field in fields {
                    select.push(", reading.").push(field.name);
                }
                select.push(" FROM ").push(layer_table::name(layer.instrument)).push(" AS reading WHERE run_id = ");
                select.push_bind(query.run_id);
                select.push(" AND layer = ").push_bind(layer.layer.as_str());
                select
            }
            Self::Steps(_) => {
                let mut select = Statement::new("SELECT step, received_at_us, scalars FROM steps WHERE run_id = ");
                select.push_bind(query.run_id);
                select
            }
        }
    }

    fn row(&self, segment: u32, row: &impl Columns) -> Result<ValuesRow, StoreError> {
        let (received_at_us, values) = match self {
            Self::Stream(_, columns) => {
                (0, columns.iter().map(|column| edge_value(column, row)).collect::<Result<_, _>>()?)
            }
            Self::Layer(_, fields) => {
                let value =
                    |field: &&FieldInfo| Ok(layer_readings::get(field, row)?.and_then(|value| value.as_number()));
                (0, fields.iter().map(value).collect::<Result<_, StoreError>>()?)
            }
            Self::Steps(names) => {
                let values = codec::scalars_named(codec::text(row, "scalars")?, names)?;
                let finite = values.into_iter().map(|value| value.filter(|value| value.is_finite()));
                (codec::signed(row, "received_at_us")?, finite.collect())
            }
        };
        Ok(ValuesRow { segment, step: codec::unsigned(row, "step")?, received_at_us, values })
    }
}

fn edge_column(name: &str) -> Result<EdgeColumn, StoreError> {
    if let Some(index) = series::sigma_index(name) {
        return Ok(EdgeColumn::Sigma(index));
    }
    let metric = EDGE_METRICS.iter().find(|metric| metric.short == name);
    let metric = metric.ok_or_else(|| StoreError::Data(format!("metric: {name:?} is not recorded")))?;
    let is_count = series::COUNTS.contains(&metric.short);
    Ok(if is_count { EdgeColumn::Count(metric.short) } else { EdgeColumn::Float(metric.short) })
}

fn edge_value(column: &EdgeColumn, row: &impl Columns) -> Result<Option<f64>, StoreError> {
    match column {
        EdgeColumn::Float(name) => row.float(name),
        EdgeColumn::Count(name) => Ok(row.integer(name)?.map(|count| count as f64)),
        EdgeColumn::Sigma(index) => row.bytes("sigma")?.map_or(Ok(None), |sigma| series::sigma_value(sigma, *index)),
    }
}

pub(in crate::sql) async fn values(backend: &impl Backend, query: &ValuesQuery) -> Result<Vec<ValuesRow>, StoreError> {
    let source = Source::of(&query.source)?;
    let (ranges, order): (Vec<&SegmentRange>, _) = if query.backwards {
        (query.ranges.iter().rev().collect(), " ORDER BY step DESC LIMIT ")
    } else {
        (query.ranges.iter().collect(), " ORDER BY step LIMIT ")
    };
    // One statement sees one state by itself.
    let access = if ranges.len() > 1 { Access::Snapshot } else { Access::Single };
    let mut session = backend.session(access).await?;
    let mut rows = Vec::new();
    for range in ranges {
        let left = query.limit - rows.len();
        if left == 0 {
            break;
        }
        let mut select = source.select(query);
        select.push(" AND segment = ").push_bind(range.segment);
        select.push(" AND step BETWEEN ").push_bind(bound_i64(range.from_step));
        select.push(" AND ").push_bind(bound_i64(range.to_step));
        select.push(order).push_bind(codec::size_i64(left));
        session
            .for_each(select, |row| {
                rows.push(source.row(range.segment, row)?);
                Ok(())
            })
            .await?;
    }
    if query.backwards {
        rows.reverse();
    }
    Ok(rows)
}
