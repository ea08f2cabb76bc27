//! A reading of a layer, as JSON and as a line of CSV, made from the fields that its instrument declares.

use std::{borrow::Cow, fmt::Write};

use gradwatch_spectral::layers::{FieldValue, LayerInstrument};
use gradwatch_store::{LayerReadingAt, LayerReadingRow};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::time::Time;

/// What a layer instrument says of one snapshot: where it stands, and then every field of the instrument under its
/// name, `reason` first. What is undefined is null.
#[derive(Debug)]
pub(crate) struct LayerReadingView {
    row: LayerReadingRow,
    wall_time: Time,
}

impl From<LayerReadingAt> for LayerReadingView {
    fn from(LayerReadingAt { row, wall_time_us }: LayerReadingAt) -> Self {
        Self { row, wall_time: Time(wall_time_us) }
    }
}

/// What every row says besides its instrument's fields.
pub(super) const KEY: [&str; 4] = ["step", "segment", "wall_time", "layer"];

impl Serialize for LayerReadingView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let LayerReadingRow { layer, segment, step, reading } = &self.row;
        let fields = layer.instrument.fields();
        let [step_key, segment_key, wall_time_key, layer_key] = KEY;
        let mut map = serializer.serialize_map(Some(KEY.len() + fields.len()))?;
        map.serialize_entry(step_key, step)?;
        map.serialize_entry(segment_key, segment)?;
        map.serialize_entry(wall_time_key, &self.wall_time)?;
        map.serialize_entry(layer_key, &layer.layer)?;
        for (field, value) in fields.iter().zip(reading.values()) {
            match value {
                None => map.serialize_entry(field.name, &())?,
                Some(FieldValue::Number(number)) => map.serialize_entry(field.name, &number)?,
                Some(FieldValue::Count(count)) => map.serialize_entry(field.name, &count)?,
                Some(FieldValue::Flag(flag)) => map.serialize_entry(field.name, &flag)?,
                Some(FieldValue::Word(word)) => map.serialize_entry(field.name, &word)?,
                Some(FieldValue::List(list)) => map.serialize_entry(field.name, &list)?,
            }
        }
        map.end()
    }
}

/// The first line of a table of an instrument's readings.
pub(crate) fn csv_header(instrument: LayerInstrument) -> String {
    let fields = instrument.fields().iter().map(|field| field.name);
    KEY.into_iter().chain(fields).collect::<Vec<_>>().join(",") + "\n"
}

/// Appends a line. What is undefined is an empty field; the numbers of a list stand in one field, with spaces between.
pub(crate) fn csv_line(LayerReadingAt { row, wall_time_us }: &LayerReadingAt, text: &mut String) {
    let LayerReadingRow { layer, segment, step, reading } = row;
    // Writing to a String cannot fail, here and below.
    let _ = write!(text, "{step},{segment},{},{}", Time(*wall_time_us).text(), quoted(&layer.layer));
    for value in reading.values() {
        text.push(',');
        match value {
            None => {}
            Some(FieldValue::Number(number)) => {
                let _ = write!(text, "{number:?}");
            }
            Some(FieldValue::Count(count)) => {
                let _ = write!(text, "{count}");
            }
            Some(FieldValue::Flag(flag)) => {
                let _ = write!(text, "{flag}");
            }
            Some(FieldValue::Word(word)) => text.push_str(&word),
            Some(FieldValue::List(list)) => {
                let numbers: Vec<String> = list.iter().map(|number| format!("{number:?}")).collect();
                text.push_str(&numbers.join(" "));
            }
        }
    }
    text.push('\n');
}

/// A text as a field of CSV (RFC 4180).
fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\r', '\n']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}
