//! What selectors look at.

use gradwatch_rules::{Selector, evaluator::RunFacts};
use gradwatch_store::{LayerKey, Run, Segment, StreamKey, lineage};

/// Of a run with all its segments. Where they differ, the newest says how often a stream comes.
pub(crate) fn of(run: &Run, segments: &[Segment]) -> RunFacts {
    let mut streams: Vec<(StreamKey, u32)> = Vec::new();
    let mut layers: Vec<LayerKey> = Vec::new();
    let mut first_window = 0;
    for number in lineage::order(segments) {
        let Some(segment) = segments.iter().find(|segment| segment.segment == number) else { continue };
        let spec = &segment.spec;
        first_window = spec.window_lengths.first().copied().unwrap_or(first_window);
        for group in &spec.groups {
            for &kind in &spec.kinds {
                for &window in &spec.window_lengths {
                    let key = StreamKey { group: group.name.clone(), kind, window };
                    match streams.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, interval)) => *interval = spec.update_interval,
                        None => streams.push((key, spec.update_interval)),
                    }
                }
            }
        }
        for layer in spec.layers.iter().map(gradwatch_store::LayerSpec::key) {
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
    }
    RunFacts { project: run.project.clone(), labels: run.labels.clone(), streams, first_window, layers }
}

/// Whether a rule has anything to say about a run.
pub(super) fn takes(selector: &Selector, facts: &RunFacts) -> bool {
    selector.project.as_ref().is_none_or(|project| *project == facts.project)
        && selector.labels.iter().all(|(name, value)| facts.labels.get(name) == Some(value))
}
