//! What the rules of a run read: every metric of every stream, layer and scalar once, in the order of the inputs.

use std::collections::BTreeMap;

use gradwatch_store::{LayerKey, StreamKey};

use super::{Inputs, selection::RunIndex, series::Series};

/// Where one column of the inputs comes from. Sorted as the inputs are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Stream(StreamKey, &'static str),
    Layer(LayerKey, &'static str),
    Scalar(String),
}

/// Of how many values of a column, and of how many of their steps, somebody needs the last ones.
#[derive(Clone, Copy, Debug, Default)]
struct Need {
    values: usize,
    steps: usize,
}

/// What is needed, as rules are looked at.
#[derive(Debug, Default)]
pub(super) struct Wanted(BTreeMap<Source, Need>);

impl Wanted {
    /// The last so many values of a column, and steps.
    pub(super) fn add(&mut self, source: &Source, values: usize, steps: usize) {
        let need = match self.0.get_mut(source) {
            Some(need) => need,
            None => self.0.entry(source.clone()).or_default(),
        };
        need.values = need.values.max(values);
        need.steps = need.steps.max(steps);
    }

    /// The inputs, the places of their columns, and what keeps their last values.
    pub(super) fn columns(&self, run: &RunIndex<'_>) -> (Inputs, BTreeMap<&Source, u32>, Vec<Series>) {
        let mut inputs = Inputs::default();
        let mut places = BTreeMap::new();
        let mut series = Vec::with_capacity(self.0.len());
        for (source, need) in &self.0 {
            let interval = match source {
                Source::Stream(stream, metric) => {
                    push(&mut inputs.streams, stream, metric);
                    run.interval(stream).unwrap_or(1)
                }
                Source::Layer(layer, field) => {
                    push(&mut inputs.layers, layer, field);
                    0
                }
                Source::Scalar(name) => {
                    inputs.scalars.push(name.clone());
                    0
                }
            };
            places.insert(source, series.len() as u32);
            let column = Series::new(need.values, need.steps, interval);
            inputs.look_back = inputs.look_back.max(column.look_back());
            series.push(column);
        }
        (inputs, places, series)
    }
}

fn push<K: Clone + PartialEq>(list: &mut Vec<(K, Vec<&'static str>)>, key: &K, name: &'static str) {
    match list.last_mut() {
        Some((last, names)) if last == key => names.push(name),
        _ => list.push((key.clone(), vec![name])),
    }
}

impl Inputs {
    /// How many values a step has.
    #[must_use]
    pub fn len(&self) -> usize {
        let streams: usize = self.streams.iter().map(|(_, names)| names.len()).sum();
        let layers: usize = self.layers.iter().map(|(_, names)| names.len()).sum();
        streams + layers + self.scalars.len()
    }

    /// Nothing is read: there are rules on events only.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The place of a column.
    pub(super) fn place(&self, wanted: &Source) -> Option<u32> {
        let streams = self.streams.iter().flat_map(|(key, names)| {
            names.iter().map(move |name| matches!(wanted, Source::Stream(it, metric) if it == key && metric == name))
        });
        let layers = self.layers.iter().flat_map(|(key, names)| {
            names.iter().map(move |name| matches!(wanted, Source::Layer(it, field) if it == key && field == name))
        });
        let scalars = self.scalars.iter().map(|name| matches!(wanted, Source::Scalar(it) if it == name));
        streams.chain(layers).chain(scalars).position(|is_it| is_it).map(|place| place as u32)
    }
}
