//! What only the job can know about the edge of a window.

use gradwatch_proto::v1;

use crate::error::SubmitError;
use crate::spec::{Kind, Spec};

/// Terms of the gap's flow and of the loss at the edge of one window: they are used at a step whose reading's `position`
/// is theirs. v_j is the j-th right singular vector of the window, j from 1. Terms that are not finite are left out.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "terms say nothing until their frame is submitted"]
pub struct EdgeTerms<'a> {
    pub(crate) group: &'a str,
    kind: Kind,
    window: u32,
    position: u32,
    curvatures: Option<[f64; 2]>,
    projections: Option<[f64; 2]>,
    loss_projections: Option<[[f64; 3]; 2]>,
}

impl<'a> EdgeTerms<'a> {
    /// About position k, from 1, of a group's window of so many rows.
    pub fn new(group: &'a str, kind: Kind, window: u32, position: u32) -> Self {
        Self { group, kind, window, position, curvatures: None, projections: None, loss_projections: None }
    }

    /// h_k and h_{k+1}: curvature of the loss along v_k and v_{k+1}.
    pub fn curvatures(mut self, at_position: f64, behind_it: f64) -> Self {
        self.curvatures = finite([at_position, behind_it]);
        self
    }

    /// G_k and G_{k+1}: projections of the gradient on v_k and v_{k+1}.
    pub fn projections(mut self, at_position: f64, behind_it: f64) -> Self {
        self.projections = finite([at_position, behind_it]);
        self
    }

    /// G_j of the training and of the validation gradient, j = 1 to 3.
    pub fn loss_projections(mut self, training: [f64; 3], validation: [f64; 3]) -> Self {
        self.loss_projections = finite(training).zip(finite(validation)).map(|(training, other)| [training, other]);
        self
    }
}

fn finite<const N: usize>(terms: [f64; N]) -> Option<[f64; N]> {
    terms.iter().all(|term| term.is_finite()).then_some(terms)
}

/// Checks a frame's terms; those with nothing left to say do not travel.
pub(crate) fn to_wire(spec: &Spec, frame_terms: &[EdgeTerms<'_>]) -> Result<Vec<v1::EdgeTerms>, SubmitError> {
    let mut wire = Vec::with_capacity(frame_terms.len());
    for (i, terms) in frame_terms.iter().enumerate() {
        let group = spec.group(terms.group)?;
        if !spec.kinds.contains(&terms.kind) {
            return Err(SubmitError::UndeclaredKind { kind: terms.kind });
        }
        let fault = |problem| SubmitError::EdgeTerms { group: terms.group.to_owned(), problem };
        if !spec.window_lengths.contains(&terms.window) {
            return Err(fault(format!("window {} was not declared when the run was opened", terms.window)));
        }
        if !(1..terms.window).contains(&terms.position) {
            return Err(fault(format!("position {} is not between 1 and {}", terms.position, terms.window - 1)));
        }
        let is_same =
            |other: &EdgeTerms<'_>| (other.group, other.kind, other.window) == (terms.group, terms.kind, terms.window);
        if frame_terms[..i].iter().any(is_same) {
            return Err(fault(format!("{} and window {} were given twice in one frame", terms.kind, terms.window)));
        }
        let at = |pair: Option<[f64; 2]>, i: usize| pair.map(|pair| pair[i]);
        let of = |i: usize| terms.loss_projections.map_or_else(Vec::new, |projections| projections[i].to_vec());
        let terms_wire = v1::EdgeTerms {
            group: group as u32,
            kind: terms.kind.to_wire().into(),
            window: terms.window,
            position: terms.position,
            curvature: at(terms.curvatures, 0),
            next_curvature: at(terms.curvatures, 1),
            projection: at(terms.projections, 0),
            next_projection: at(terms.projections, 1),
            training_projections: of(0),
            validation_projections: of(1),
        };
        if terms.curvatures.is_some() || terms.projections.is_some() || terms.loss_projections.is_some() {
            wire.push(terms_wire);
        }
    }
    Ok(wire)
}
