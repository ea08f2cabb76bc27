//! What several answers share.

use gradwatch_store::AlertMoment;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::time::Time;

/// A place and time in the life of an alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MomentView {
    segment: u32,
    step: u64,
    /// By the server's clock.
    at: Time,
}

impl From<AlertMoment> for MomentView {
    fn from(moment: AlertMoment) -> Self {
        Self { segment: moment.segment, step: moment.step, at: Time(moment.at_us) }
    }
}
