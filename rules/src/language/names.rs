//! What a name in an expression stands for.

use std::sync::LazyLock;

use gradwatch_spectral::{
    catalogue::{self, EDGE_METRICS},
    layers::{FieldInfo, FieldType, LayerInstrument},
    window::WINDOW_LENGTHS,
};
use gradwatch_store::Kind;

use super::{
    condition::{Function, TermSource},
    events,
    fault::Fault,
    nearest::did_you_mean,
    token::{Name, shown},
    tree::{Qualifier, QualifierValue},
};

/// The longest name of a group, a layer or a scalar.
const MAX_NAME_BYTES: usize = 256;

/// `sigma_1` to `sigma_64`: windows have at most 64 rows. Of these the catalogue names the first three.
static SIGMAS: LazyLock<Vec<String>> =
    LazyLock::new(|| (1..=*WINDOW_LENGTHS.end()).map(|j| format!("sigma_{j}")).collect());

/// Every name but those of scalars that stands for a number.
static METRICS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let layers = LayerInstrument::ALL.iter().flat_map(|instrument| {
        let fields = instrument.fields().iter().filter(|field| field.is_chartable());
        fields.map(move |field| format!("{instrument}.{}", field.name))
    });
    EDGE_METRICS.iter().map(|metric| metric.name.to_owned()).chain(layers).collect()
});

/// The functions, as they are called.
pub(super) const FUNCTIONS: [&str; 9] = ["mean", "min", "max", "stddev", "slope", "zscore", "quantile", "delta", "abs"];

const KINDS_OF_METRICS: &str =
    "metrics begin with edge., update., cascade., curvature., dead_directions., learning_cell. or scalar.";

/// Looks a metric up.
pub(super) fn resolve(name: &Name, at: usize, qualifiers: &[Qualifier]) -> Result<TermSource, Fault> {
    let text = name.text.as_str();
    if let Some(scalar) = text.strip_prefix("scalar.") {
        if scalar.is_empty() || scalar.len() > MAX_NAME_BYTES {
            return Err(Fault::new(at, format!("the name of a scalar has 1 to {MAX_NAME_BYTES} bytes")));
        }
        if let Some(first) = qualifiers.first() {
            return Err(Fault::new(first.key_at, "a scalar belongs to the run and takes no qualifiers"));
        }
        return Ok(TermSource::Scalar { name: scalar.to_owned() });
    }
    if name.is_quoted {
        return Err(Fault::new(at, "only names of scalars may stand in quotation marks: `scalar.\"a b\"`"));
    }
    if let Some(metric) = edge_metric(text) {
        return edge(metric, qualifiers);
    }
    if let Some((instrument, field)) = layer_field(text) {
        if !field.is_chartable() {
            let holds = if field.field_type == FieldType::List { "lists" } else { "words" };
            let message = format!("`{text}` holds {holds}; only numbers, counts and flags (1 or 0) are metrics");
            return Err(Fault::new(at, message));
        }
        return layer(instrument, field.name, qualifiers);
    }
    Err(Fault::new(at, unknown(text)))
}

fn unknown(text: &str) -> String {
    let shown = shown(text);
    if events::is_event(text) || text == "transition" {
        return format!("`{shown}` is an event, and an event stands alone: a condition is one event, or an expression");
    }
    if FUNCTIONS.contains(&text) {
        return format!("`{shown}` is a function; write {}", usage(text));
    }
    let lower = text.to_ascii_lowercase();
    if ["and", "or", "not", "true", "false"].contains(&lower.as_str()) {
        return format!("`{shown}` is written in lower case: `{lower}`");
    }
    let known = METRICS.iter().map(String::as_str);
    let otherwise = match text.split_once('.') {
        None => format!("what the job sends itself is `scalar.{shown}`"),
        Some(_) => KINDS_OF_METRICS.to_owned(),
    };
    format!("there is no metric `{shown}`{}", did_you_mean(text, known.chain(events::names()), &otherwise))
}

/// How a function is called.
pub(super) fn usage(function: &str) -> String {
    match function {
        "quantile" => "`quantile(metric, q, n)` with q from 0 to 1, over the last n readings".to_owned(),
        "delta" => "`delta(metric)`".to_owned(),
        "abs" => "`abs(number)`".to_owned(),
        windowed => format!("`{windowed}(metric, n)`, over the last n readings"),
    }
}

/// The function of a name whose arguments are a metric and n.
pub(super) fn windowed(name: &str) -> Option<Function> {
    Some(match name {
        "mean" => Function::Mean,
        "min" => Function::Min,
        "max" => Function::Max,
        "stddev" => Function::Stddev,
        "slope" => Function::Slope,
        "zscore" => Function::Zscore,
        _ => return None,
    })
}

pub(super) fn unknown_function(name: &Name) -> String {
    let otherwise = format!("functions are {}", FUNCTIONS.join(", "));
    format!("there is no function `{}`{}", shown(&name.text), did_you_mean(&name.text, FUNCTIONS, &otherwise))
}

/// The short name of an edge or update metric.
fn edge_metric(name: &str) -> Option<&'static str> {
    if let Some(metric) = catalogue::edge_metric(name) {
        return Some(metric.short);
    }
    let short = name.strip_prefix("edge.")?;
    SIGMAS.iter().find(|sigma| *sigma == short).map(String::as_str)
}

fn layer_field(name: &str) -> Option<(LayerInstrument, &'static FieldInfo)> {
    let (instrument, short) = name.split_once('.')?;
    let instrument: LayerInstrument = instrument.parse().ok()?;
    instrument.fields().iter().find(|field| field.name == short).map(|field| (instrument, field))
}

fn edge(metric: &'static str, qualifiers: &[Qualifier]) -> Result<TermSource, Fault> {
    let (mut group, mut kind, mut window) = (None, None, None);
    for qualifier in qualifiers {
        match qualifier.key.as_str() {
            "group" => group = Some(qualified_name(qualifier)?),
            "kind" => kind = Some(qualified_kind(qualifier)?),
            "window" => {
                let rows = qualified_window(qualifier)?;
                if SIGMAS.iter().skip(rows).any(|sigma| sigma == metric) {
                    let message = format!("a window of {rows} rows has no {metric}");
                    return Err(Fault::new(qualifier.value_at, message));
                }
                window = Some(rows);
            }
            other => return Err(unknown_qualifier(other, qualifier.key_at, "group, kind and window")),
        }
    }
    Ok(TermSource::Edge { metric, group, kind, window })
}

fn layer(instrument: LayerInstrument, field: &'static str, qualifiers: &[Qualifier]) -> Result<TermSource, Fault> {
    let mut layer = None;
    for qualifier in qualifiers {
        match qualifier.key.as_str() {
            "layer" => layer = Some(qualified_name(qualifier)?),
            other => return Err(unknown_qualifier(other, qualifier.key_at, "layer")),
        }
    }
    Ok(TermSource::Layer { instrument, field, layer })
}

fn unknown_qualifier(key: &str, at: usize, known: &str) -> Fault {
    Fault::new(at, format!("`{}` does not qualify this metric; it takes {known}", shown(key)))
}

fn qualified_name(qualifier: &Qualifier) -> Result<String, Fault> {
    match &qualifier.value {
        QualifierValue::Text(text) if (1..=MAX_NAME_BYTES).contains(&text.len()) => Ok(text.clone()),
        QualifierValue::Text(_) => {
            Err(Fault::new(qualifier.value_at, format!("a name has 1 to {MAX_NAME_BYTES} bytes")))
        }
        QualifierValue::Number(_) => {
            Err(Fault::new(qualifier.value_at, format!("`{}` is a name, in double quotation marks", qualifier.key)))
        }
    }
}

fn qualified_kind(qualifier: &Qualifier) -> Result<Kind, Fault> {
    let kind = match &qualifier.value {
        QualifierValue::Text(text) => text.parse().ok(),
        QualifierValue::Number(_) => None,
    };
    kind.ok_or_else(|| Fault::new(qualifier.value_at, "a kind is \"update\" or \"gradient\""))
}

fn qualified_window(qualifier: &Qualifier) -> Result<usize, Fault> {
    let (least, most) = WINDOW_LENGTHS.into_inner();
    match qualifier.value {
        QualifierValue::Number(rows) if rows.fract() == 0.0 && rows >= least as f64 && rows <= most as f64 => {
            Ok(rows as usize)
        }
        _ => Err(Fault::new(qualifier.value_at, format!("a window is a whole number of rows, {least} to {most}"))),
    }
}
