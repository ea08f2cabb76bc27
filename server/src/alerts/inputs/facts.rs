//! What selectors look at.

use std::collections::BTreeMap;

use gradwatch_rules::evaluator::RunFacts;
use gradwatch_store::{LayerKey, Run, Segment, StreamKey, lineage};

/// The facts of a run with these segments. Of a stream that several of them have, the newest says the interval; the newest
/// also says the window that a term without one means.
pub(crate) fn facts_of(run: &Run, segments: &[Segment]) -> RunFacts {
    let by_number: BTreeMap<u32, &Segment> = segments.iter().map(|segment| (segment.segment, segment)).collect();
    let mut streams: BTreeMap<StreamKey, u32> = BTreeMap::new();
    let mut layers: Vec<LayerKey> = Vec::new();
    let mut first_window = 0;
    for number in lineage::order(segments) {
        let spec = &by_number[&number].spec;
        for group in &spec.groups {
            for &kind in &spec.kinds {
                for &window in &spec.window_lengths {
                    let stream = StreamKey { group: group.name.clone(), kind, window };
                    streams.insert(stream, spec.update_interval);
                }
            }
        }
        layers.extend(spec.layers.iter().map(gradwatch_store::LayerSpec::key));
        first_window = spec.window_lengths.first().copied().unwrap_or(first_window);
    }
    layers.sort_unstable();
    layers.dedup();
    RunFacts {
        project: run.project.clone(),
        labels: run.labels.clone(),
        streams: streams.into_iter().collect(),
        first_window,
        layers,
    }
}
