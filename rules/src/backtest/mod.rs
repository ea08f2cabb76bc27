//! What rules would have said, counted against what came true.
//!
//! Of each run it is known at which step a *truth* came true, if it did, and when each rule fired. From that:
//!
//! | word | meaning |
//! |---|---|
//! | positive, negative run | the truth came true in it / did not |
//! | true positive | a positive run in which the rule first fired at the step of the truth or before it |
//! | late | a positive run in which the rule first fired behind it. No warning, and no false alarm either: it counts for recall as missed and for precision not at all |
//! | missed | a positive run in which the rule was quiet |
//! | false alarm | a negative run in which the rule fired |
//! | precision | true positives / (true positives + false alarms), in runs: how often a warning was followed by the truth |
//! | recall | true positives / positive runs: how often the truth was warned of |
//! | false-alarm rate | false alarms / negative runs |
//! | lead | step of the truth − first step at which the rule fired, of the true positives |
//!
//! Runs are counted, not alerts, because the alerts of one run are not independent of each other. What cannot be computed
//! (0/0) is null.

mod lead;
mod proportion;
mod score;

pub use lead::Lead;
pub use proportion::Proportion;
pub use score::{Firings, Judgement, Score};
