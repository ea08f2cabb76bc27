//! What a job sends of the edge of its windows.

use std::collections::HashSet;

use gradwatch_proto::v1::{self, RejectCode};
use gradwatch_spectral::edge::EdgeTerms;
use gradwatch_store::StreamSpec;

use super::frames::{Fault, declared_kind, fault, group_index};
use crate::pipeline::TermsOf;

/// Modes whose part of the loss is followed.
const LOSS_MODES: usize = 3;

/// Checks a frame's edge terms.
pub(super) fn edge_terms(wire: &[v1::EdgeTerms], spec: &StreamSpec) -> Result<Vec<(TermsOf, EdgeTerms)>, Fault> {
    let mut seen = HashSet::new();
    let mut all = Vec::with_capacity(wire.len());
    for (index, terms) in wire.iter().enumerate() {
        let field = |name: &str| format!("edge_terms[{index}].{name}");
        let group = group_index(&field("group"), terms.group, spec)?;
        let kind = declared_kind(&field("kind"), terms.kind(), spec)?;
        let declared = spec.window_lengths.iter().find(|window| u32::try_from(**window) == Ok(terms.window));
        let Some(&window) = declared else {
            let message = format!("{} is not one of the declared window lengths", terms.window);
            return fault(RejectCode::SpecMismatch, field("window"), message);
        };
        if !(1..terms.window).contains(&terms.position) {
            let message = format!("{} is not between 1 and {}", terms.position, terms.window - 1);
            return fault(RejectCode::Invalid, field("position"), message);
        }
        let of = TermsOf { group, kind, window };
        if !seen.insert(of) {
            let message = format!("second terms of {} window {window} of group {group}", kind.as_str());
            return fault(RejectCode::Invalid, format!("edge_terms[{index}]"), message);
        }
        let curvatures = pair((field("curvature"), terms.curvature), (field("next_curvature"), terms.next_curvature))?;
        let projections =
            pair((field("projection"), terms.projection), (field("next_projection"), terms.next_projection))?;
        let training = modes(&field("training_projections"), &terms.training_projections)?;
        let validation = modes(&field("validation_projections"), &terms.validation_projections)?;
        let loss_projections = match (training, validation) {
            (Some(training), Some(validation)) => Some([training, validation]),
            (None, None) => None,
            (Some(_), None) => return alone(field("validation_projections"), &field("training_projections")),
            (None, Some(_)) => return alone(field("training_projections"), &field("validation_projections")),
        };
        if curvatures.is_none() && projections.is_none() && loss_projections.is_none() {
            return fault(RejectCode::Invalid, format!("edge_terms[{index}]"), "holds no terms");
        }
        all.push((of, EdgeTerms { position: terms.position, curvatures, projections, loss_projections }));
    }
    Ok(all)
}

/// Two values, each with the name of its field, that come together or not at all.
fn pair(at: (String, Option<f64>), behind: (String, Option<f64>)) -> Result<Option<[f64; 2]>, Fault> {
    match (at.1, behind.1) {
        (Some(first), Some(second)) => {
            finite(&at.0, first)?;
            finite(&behind.0, second)?;
            Ok(Some([first, second]))
        }
        (None, None) => Ok(None),
        (Some(_), None) => alone(behind.0, &at.0),
        (None, Some(_)) => alone(at.0, &behind.0),
    }
}

/// One value for each followed mode, or none.
fn modes(field: &str, values: &[f64]) -> Result<Option<[f64; LOSS_MODES]>, Fault> {
    if values.is_empty() {
        return Ok(None);
    }
    let Ok(modes) = <[f64; LOSS_MODES]>::try_from(values) else {
        return fault(
            RejectCode::Invalid,
            field,
            format!("{} values; {LOSS_MODES} or none are expected", values.len()),
        );
    };
    for (index, value) in modes.into_iter().enumerate() {
        finite(&format!("{field}[{index}]"), value)?;
    }
    Ok(Some(modes))
}

fn alone<T>(missing: String, other: &str) -> Result<T, Fault> {
    fault(RejectCode::Invalid, missing, format!("is missing: it comes together with {other}"))
}

/// A job whose terms are not finite has none to send; a server that took them could only leave them out in silence.
fn finite(field: &str, value: f64) -> Result<(), Fault> {
    if value.is_finite() {
        return Ok(());
    }
    fault(RejectCode::Invalid, field, format!("{value} is not finite"))
}
