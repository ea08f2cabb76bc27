//! Metric names: `instrument.reading`, `update.norm_z`, `scalar.<name>`.

use std::sync::LazyLock;

use gradwatch_spectral::{
    catalogue::{self, EDGE_METRICS},
    layers::{FieldInfo, FieldType, LayerInstrument},
};

use super::text;
use crate::error::Error;

/// `sigma_1` to `sigma_64`: windows have at most 64 rows. Of these the catalogue names the first three.
static SIGMAS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=64).map(|j| format!("sigma_{j}")).collect());

/// A metric that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metric {
    /// Full name.
    pub(crate) name: String,
    /// Whose it is.
    pub(crate) what: What,
    /// Its unit, where one is known.
    pub(crate) unit: Option<&'static str>,
    /// Whether the recorder keeps rollups of it.
    pub(crate) has_rollups: bool,
}

/// What is charted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A reading of streams, by its short name.
    Edge(&'static str),
    /// A field of the readings of layers.
    Layer(LayerInstrument, &'static str),
    /// What the job sends itself.
    Scalar(String),
}

/// Looks a name up, among the readings and the `scalars` that were sent.
pub(crate) fn find(name: &str, scalars: &[String]) -> Result<Metric, Error> {
    if let Some(edge) = catalogue::edge_metric(name) {
        return Ok(Metric {
            name: name.to_owned(),
            what: What::Edge(edge.short),
            unit: Some(edge.unit),
            has_rollups: edge.headline,
        });
    }
    if let Some(short) = name.strip_prefix("edge.")
        && let Some(sigma) = SIGMAS.iter().find(|sigma| *sigma == short)
    {
        let what = What::Edge(sigma);
        return Ok(Metric { name: name.to_owned(), what, unit: Some("u"), has_rollups: false });
    }
    if let Some((instrument, field)) = layer_field(name) {
        if !field.is_chartable() {
            let holds = if field.field_type == FieldType::List { "lists" } else { "words" };
            let message = format!("{name:?} holds {holds}; only numbers, counts and flags can be charted");
            return Err(Error::invalid("metric", message));
        }
        let what = What::Layer(instrument, field.name);
        return Ok(Metric { name: name.to_owned(), what, unit: Some(field.unit), has_rollups: false });
    }
    if let Some(scalar) = name.strip_prefix("scalar.")
        && scalars.iter().any(|known| known == scalar)
    {
        let what = What::Scalar(scalar.to_owned());
        return Ok(Metric { name: name.to_owned(), what, unit: None, has_rollups: true });
    }
    let streams = EDGE_METRICS.iter().map(|metric| metric.name.to_owned());
    let layers = LayerInstrument::ALL.iter().flat_map(|instrument| {
        let fields = instrument.fields().iter().filter(|field| field.is_chartable());
        fields.map(move |field| format!("{instrument}.{}", field.name))
    });
    let sent = scalars.iter().map(|scalar| format!("scalar.{scalar}"));
    let names: Vec<String> = streams.chain(layers).chain(sent).collect();
    Err(Error::invalid("metric", format!("there is no metric {name:?}{}", text::did_you_mean(name, &names))))
}

/// The field that a full name means.
fn layer_field(name: &str) -> Option<(LayerInstrument, &'static FieldInfo)> {
    let (instrument, short) = name.split_once('.')?;
    let instrument: LayerInstrument = instrument.parse().ok()?;
    instrument.fields().iter().find(|field| field.name == short).map(|field| (instrument, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_or_refused_with_their_neighbours() {
        let scalars = ["loss".to_owned(), "val.loss".to_owned()];
        let ratio = find("edge.ratio", &scalars).unwrap();
        assert_eq!((ratio.what, ratio.has_rollups), (What::Edge("ratio"), true));
        assert_eq!(find("update.norm_z", &scalars).unwrap().what, What::Edge("norm_z"));
        assert_eq!(find("scalar.val.loss", &scalars).unwrap().what, What::Scalar("val.loss".into()));
        assert_eq!(find("edge.sigma_64", &scalars).unwrap().what, What::Edge("sigma_64"));
        assert!(find("edge.sigma_65", &scalars).is_err());
        let exponent = find("curvature.exponent", &scalars).unwrap();
        assert_eq!(exponent.what, What::Layer(LayerInstrument::Curvature, "exponent"));
        assert_eq!((exponent.unit, exponent.has_rollups), (Some("1"), false));
        for (name, near) in [
            ("edge.ration", "edge.ratio"),
            ("scalar.los", "scalar.loss"),
            ("ratio", ""),
            ("scalar.", ""),
            ("cascade.phy", "cascade.phi"),
            ("curvature.", ""),
            ("cascade.reason", "holds words"),
            ("curvature.rank_model", "holds words"),
            ("curvature.preconditioner", "holds lists"),
        ] {
            let error = find(name, &scalars).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("metric"), "{name}");
            assert!(error.message.contains(near), "{name}: {}", error.message);
        }
    }

    #[test]
    fn every_number_count_and_flag_of_a_layer_can_be_charted() {
        for instrument in LayerInstrument::ALL {
            for field in instrument.fields() {
                let found = find(&format!("{instrument}.{}", field.name), &[]);
                assert_eq!(found.is_ok(), field.is_chartable(), "{instrument}.{}", field.name);
            }
        }
    }
}
