//! Readings of the layer instruments.

use gradwatch_spectral::layers::{FieldInfo, FieldType, FieldValue, LayerInstrument, LayerReading};

use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, bound_i64, finite, to_i64},
    error::StoreError,
    layer_table,
    model::{LayerKey, LayerReadingAt, LayerReadingRow, RunId, StreamSpec},
    query::{LayerReadingQuery, Page, SeriesPoint, SeriesQuery},
};

pub(super) fn encode((run_id, row): &(RunId, &LayerReadingRow), values: &mut impl Values) -> Result<(), StoreError> {
    let instrument = row.layer.instrument;
    if row.reading.instrument() != instrument {
        let of = row.reading.instrument();
        let message = format!("layer_readings.layer.instrument: a reading of {of} for a layer of {instrument}");
        return Err(StoreError::Data(message));
    }
    values.uuid(run_id.0)?;
    values.text(row.layer.layer.as_str())?;
    values.integer(i64::from(row.segment))?;
    values.integer(to_i64("layer_readings.step", row.step)?)?;
    for (field, value) in instrument.fields().iter().zip(row.reading.values()) {
        put(field, value, values)?;
    }
    Ok(())
}

/// Writes a field. Also null has the type of its column.
fn put(field: &FieldInfo, value: Option<FieldValue>, values: &mut impl Values) -> Result<(), StoreError> {
    let name = field.name;
    match (field.field_type, value) {
        (FieldType::Number, None) => values.float(None::<f64>),
        (FieldType::Number, Some(FieldValue::Number(number))) => values.float(finite(name, number)?),
        (FieldType::Count, None) => values.integer(None::<i64>),
        (FieldType::Count, Some(FieldValue::Count(count))) => values.integer(to_i64(name, count)?),
        (FieldType::Flag, None) => values.flag(None::<bool>),
        (FieldType::Flag, Some(FieldValue::Flag(flag))) => values.flag(flag),
        (FieldType::Word, None) => values.text(None::<&str>),
        (FieldType::Word, Some(FieldValue::Word(word))) => values.text(&*word),
        (FieldType::List, None) => values.bytes(None::<&[u8]>),
        (FieldType::List, Some(FieldValue::List(list))) => {
            list.iter().try_for_each(|&number| finite(name, number).map(drop))?;
            values.bytes(codec::floats_to_blob(&list).as_slice())
        }
        (field_type, Some(value)) => Err(StoreError::Data(format!("{name}: {value:?} is no {field_type:?}"))),
    }
}

/// The reverse of [`put`].
pub(super) fn get(field: &FieldInfo, row: &impl Columns) -> Result<Option<FieldValue>, StoreError> {
    let name = field.name;
    Ok(match field.field_type {
        FieldType::Number => row.float(name)?.map(FieldValue::Number),
        FieldType::Count => codec::unsigned_or_null(row, name)?.map(FieldValue::Count),
        FieldType::Flag => row.flag(name)?.map(FieldValue::Flag),
        FieldType::Word => row.text(name)?.map(|word| FieldValue::Word(word.to_owned().into())),
        FieldType::List => {
            row.bytes(name)?.map(|blob| codec::floats_from_blob(name, blob)).transpose()?.map(FieldValue::List)
        }
    })
}

/// A row of an instrument's table with `wall_time_us` of its step.
fn reading(layer: &LayerKey, row: &impl Columns) -> Result<LayerReadingAt, StoreError> {
    let segment = codec::unsigned(row, "segment")?;
    let step = codec::unsigned(row, "step")?;
    let Some(wall_time_us) = row.integer("wall_time_us")? else {
        return Err(StoreError::Data(format!("segment {segment} has a reading of a layer, but no step {step}")));
    };
    let instrument = layer.instrument;
    let values = instrument.fields().iter().map(|field| get(field, row)).collect::<Result<Vec<_>, _>>()?;
    // The types are those of the fields, so that only a word can be none of this version.
    let reading = LayerReading::from_values(instrument, values).ok_or_else(|| {
        StoreError::Data(format!("{}, segment {segment}, step {step}: an unknown word", layer_table::name(instrument)))
    })?;
    Ok(LayerReadingAt { row: LayerReadingRow { layer: layer.clone(), segment, step, reading }, wall_time_us })
}

pub(super) async fn layer_readings(
    backend: &impl Backend,
    query: &LayerReadingQuery,
) -> Result<Page<LayerReadingAt>, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let mut items = Vec::new();
    for range in &query.ranges {
        // One more than wanted tells whether there are more.
        let wanted = query.limit.saturating_add(1) - items.len();
        let mut select = select_with_wall_time(&query.layer);
        select.push(
            "WHERE run_id = $1 AND layer = $2 AND segment = $3 AND step BETWEEN $4 AND $5 ORDER BY step LIMIT $6",
        );
        let select = select
            .bind(query.run_id)
            .bind(query.layer.layer.as_str())
            .bind(range.segment)
            .bind(bound_i64(range.from_step))
            .bind(bound_i64(range.to_step))
            .bind(codec::size_i64(wanted));
        for row in &snapshot.fetch_all(select).await? {
            items.push(reading(&query.layer, row)?);
        }
        if items.len() > query.limit {
            break;
        }
    }
    let more = items.len() > query.limit;
    items.truncate(query.limit);
    Ok(Page { items, more })
}

/// The layers come from the segment's spec: each is then one look at the end of its key range.
pub(super) async fn latest_layer_readings(
    backend: &impl Backend,
    run_id: RunId,
    segment: u32,
) -> Result<Vec<LayerReadingAt>, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let select = Statement::new("SELECT spec FROM segments WHERE run_id = $1 AND segment = $2");
    let declared = snapshot.fetch_optional(select.bind(run_id).bind(segment)).await?;
    let Some(declared) = declared else { return Ok(Vec::new()) };
    let spec: StreamSpec = codec::json(&declared, "spec")?;
    let mut latest = Vec::new();
    for layer in spec.layers.iter().map(|layer| layer.key()) {
        let mut select = select_with_wall_time(&layer);
        select.push("WHERE run_id = $1 AND layer = $2 AND segment = $3 ORDER BY step DESC LIMIT 1");
        let select = select.bind(run_id).bind(layer.layer.as_str()).bind(segment);
        if let Some(row) = snapshot.fetch_optional(select).await? {
            latest.push(reading(&layer, &row)?);
        }
    }
    Ok(latest)
}

fn select_with_wall_time<'a>(layer: &LayerKey) -> Statement<'a> {
    let mut select = Statement::new("SELECT reading.*, steps.wall_time_us FROM ");
    select.push(layer_table::name(layer.instrument));
    select.push(" AS reading LEFT JOIN steps USING (run_id, segment, step) ");
    select
}

/// The field of this name, if it is a number, a count or a flag.
pub(super) fn chartable_field(instrument: LayerInstrument, name: &str) -> Result<&'static FieldInfo, StoreError> {
    let field = instrument.fields().iter().find(|field| field.name == name && field.is_chartable());
    field.ok_or_else(|| StoreError::Data(format!("metric: {name:?} is no number of {instrument}")))
}

pub(super) async fn series(
    backend: &impl Backend,
    query: &SeriesQuery,
    layer: &LayerKey,
    field: &str,
) -> Result<Vec<SeriesPoint>, StoreError> {
    let instrument = layer.instrument;
    let field = chartable_field(instrument, field)?;
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let mut points = Vec::new();
    for range in &query.ranges {
        // Invariant: table and column are constants of ours; the name that was asked for only chose among them.
        let mut select = Statement::new("SELECT step, reading.");
        select.push(field.name).push(" FROM ").push(layer_table::name(instrument)).push(
            " AS reading WHERE run_id = $1 AND layer = $2 AND segment = $3 AND step BETWEEN $4 AND $5 ORDER BY step",
        );
        let select = select
            .bind(query.run_id)
            .bind(layer.layer.as_str())
            .bind(range.segment)
            .bind(bound_i64(range.from_step))
            .bind(bound_i64(range.to_step));
        snapshot
            .for_each(select, |row| {
                if let Some(value) = get(field, row)?.and_then(|value| value.as_number()) {
                    points.push(SeriesPoint { segment: range.segment, step: codec::unsigned(row, "step")?, value });
                }
                Ok(())
            })
            .await?;
    }
    Ok(points)
}
