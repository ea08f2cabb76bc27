//! Metric names: `instrument.reading`, `update.norm_z`, `scalar.<name>`.

use std::sync::LazyLock;

use gradwatch_spectral::catalogue::{self, EDGE_METRICS};
use gradwatch_store::SeriesMetric;

use super::text;
use crate::error::Error;

/// `sigma_1` to `sigma_64`: windows have at most 64 rows. Of these the catalogue names the first three.
static SIGMAS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=64).map(|j| format!("sigma_{j}")).collect());

/// A metric that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metric {
    /// Full name.
    pub(crate) name: String,
    /// What the store calls it.
    pub(crate) metric: SeriesMetric,
    /// Its unit, where one is known.
    pub(crate) unit: Option<&'static str>,
    /// Whether the recorder keeps rollups of it.
    pub(crate) has_rollups: bool,
}

/// Looks a name up, among the readings and the `scalars` that were sent.
pub(crate) fn find(name: &str, scalars: &[String]) -> Result<Metric, Error> {
    if let Some(edge) = catalogue::edge_metric(name) {
        return Ok(Metric {
            name: name.to_owned(),
            metric: SeriesMetric::Edge(edge.short),
            unit: Some(edge.unit),
            has_rollups: edge.headline,
        });
    }
    if let Some(short) = name.strip_prefix("edge.")
        && let Some(sigma) = SIGMAS.iter().find(|sigma| *sigma == short)
    {
        let metric = SeriesMetric::Edge(sigma);
        return Ok(Metric { name: name.to_owned(), metric, unit: Some("u"), has_rollups: false });
    }
    if let Some(scalar) = name.strip_prefix("scalar.")
        && scalars.iter().any(|known| known == scalar)
    {
        let metric = SeriesMetric::Scalar(scalar.to_owned());
        return Ok(Metric { name: name.to_owned(), metric, unit: None, has_rollups: true });
    }
    let readings = EDGE_METRICS.iter().map(|metric| metric.name.to_owned());
    let names: Vec<String> = readings.chain(scalars.iter().map(|scalar| format!("scalar.{scalar}"))).collect();
    Err(Error::invalid("metric", format!("there is no metric {name:?}{}", text::did_you_mean(name, &names))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_or_refused_with_their_neighbours() {
        let scalars = ["loss".to_owned(), "val.loss".to_owned()];
        let ratio = find("edge.ratio", &scalars).unwrap();
        assert_eq!((ratio.metric, ratio.has_rollups), (SeriesMetric::Edge("ratio"), true));
        assert_eq!(find("update.norm_z", &scalars).unwrap().metric, SeriesMetric::Edge("norm_z"));
        assert_eq!(find("scalar.val.loss", &scalars).unwrap().metric, SeriesMetric::Scalar("val.loss".into()));
        assert_eq!(find("edge.sigma_64", &scalars).unwrap().metric, SeriesMetric::Edge("sigma_64"));
        assert!(find("edge.sigma_65", &scalars).is_err());
        for (name, near) in
            [("edge.ration", "edge.ratio"), ("scalar.los", "scalar.loss"), ("ratio", ""), ("scalar.", "")]
        {
            let error = find(name, &scalars).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("metric"), "{name}");
            assert!(error.message.contains(near), "{name}: {}", error.message);
        }
    }
}
