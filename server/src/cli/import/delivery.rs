//! From checkpoints to frames, at the speed of the slower of disk and server.

use std::time::Duration;

use gradwatch_client::{DEFAULT_BUFFER_BYTES, Encoding, Frame, Outcome, RepeatableAttempt, Run, RunBuilder, Uuid};
use serde_json::json;

use super::super::progress::Progress;
use super::ImportArgs;
use super::checkpoint::CheckpointFile;
use super::error::ImportError;
use super::existing::Existing;
use super::layout::Layout;
use super::series::{Plan, Series};
use super::steps::Checkpoint;

/// How long a server may be away or busy without acknowledging anything: a restart is ridden out.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who writes the attempts of imports: whichever process goes on with one.
const WRITER: &str = "gradwatch import";

/// A run being filled from checkpoints.
pub(super) struct Import<'a> {
    args: &'a ImportArgs,
    series: &'a Series,
    layout: Layout,
    run: Run,
}

impl<'a> Import<'a> {
    /// Opens the run as the first needed checkpoint describes it.
    pub(super) fn open(
        args: &'a ImportArgs,
        series: &'a Series,
        plan: &Plan,
        existing: Option<&Existing>,
        run_id: Uuid,
        ca_certificate: Option<&str>,
    ) -> Result<Self, ImportError> {
        let first = plan.rows.first().map_or(0, |row| row.base);
        let layout = Layout::of(&CheckpointFile::open(&series.checkpoints[first].path)?, &args.groups())?;
        let attempt = RepeatableAttempt {
            attempt_id: existing.map_or_else(Uuid::new_v4, |existing| existing.attempt_id),
            writer_id: WRITER.to_owned(),
            first_seq: plan.first_seq,
            settled_seq: plan.settled_seq,
        };
        let run = builder(args, ca_certificate, &layout).run_id(run_id).repeatable_attempt(attempt).open()?;
        Ok(Self { args, series, layout, run })
    }

    /// Sends every row of the plan. What was sent is settled, and the run says how it ended, also when a file is at
    /// fault in the middle.
    pub(super) fn deliver(mut self, plan: &Plan, progress: &mut Progress) -> Result<(), ImportError> {
        let sent = self.send(plan, progress);
        let settled = match &sent {
            // A server that is gone or wants no more was waited for already.
            Err(ImportError::Wait(_)) => return sent,
            _ => self.run.wait_until_settled(PATIENCE),
        };
        let report = self.run.close_with(if sent.is_ok() { Outcome::Finished } else { Outcome::Failed });
        sent?;
        settled?;
        if report.settled < report.submitted || report.reason.is_some() {
            return Err(ImportError::Undelivered(Box::new(report)));
        }
        Ok(())
    }

    fn send(&mut self, plan: &Plan, progress: &mut Progress) -> Result<(), ImportError> {
        let new_rows = plan.rows.len() - plan.refill;
        let mut base = None;
        for (index, row) in plan.rows.iter().enumerate() {
            // Behind a hole the next row starts anew, at the first checkpoint behind it.
            if base != Some(row.base) {
                let (step, sketches) = self.sketch(row.base)?;
                self.run.set_base(step, frame(&self.layout, &sketches))?;
            }
            let (step, sketches) = self.sketch(row.end)?;
            self.run.wait_for_room(PATIENCE)?;
            let mut frame = frame(&self.layout, &sketches);
            if let Some(learning_rate) = self.args.lr {
                frame = frame.learning_rate(learning_rate);
            }
            self.run.submit(step, frame)?;
            base = Some(row.end);
            // Rows that only refill windows were recorded before.
            if let Some(done) = (index + 1).checked_sub(plan.refill).filter(|done| *done > 0) {
                progress.show(done as u64, new_rows as u64, Some(step));
            }
        }
        Ok(())
    }

    fn sketch(&self, index: usize) -> Result<(u64, Vec<Vec<f64>>), ImportError> {
        let Checkpoint { step, path } = &self.series.checkpoints[index];
        Ok((*step, self.layout.sketch(&CheckpointFile::open(path)?, self.run.sketcher())?))
    }
}

/// All groups of one checkpoint.
fn frame<'a>(layout: &'a Layout, sketches: &'a [Vec<f64>]) -> Frame<'a> {
    let groups = layout.groups.iter().zip(sketches);
    groups.fold(Frame::new(), |frame, (group, sketch)| frame.sketched_parameters(&group.name, sketch))
}

fn builder(args: &ImportArgs, ca_certificate: Option<&str>, layout: &Layout) -> RunBuilder {
    let longest_window = args.windows.iter().max().map_or(0, |&longest| longest as usize);
    // Float32, each with the little that goes with it. Twice what the client asks for at least.
    let frame_bytes = 1024 + layout.groups.len() * (4 * args.dim + 128);
    let buffer_bytes = DEFAULT_BUFFER_BYTES.max(8 * (longest_window + 1) * frame_bytes);
    let builder = Run::builder(args.server())
        .project(&args.project)
        .name(&args.name)
        .config(json!({ "imported": true, "every": args.every, "learning_rate": args.lr }))
        .sketch_dim(args.dim)
        .seed(args.seed)
        .encoding(Encoding::from(args.encoding))
        .update_interval(args.every)
        .buffer_bytes(buffer_bytes)
        .close_timeout(PATIENCE);
    let builder = args.remote.token.iter().fold(builder, |builder, token| builder.token(token));
    let builder = ca_certificate.into_iter().fold(builder, |builder, pem| builder.ca_certificate(pem));
    let builder = args.labels.iter().fold(builder, |builder, (key, value)| builder.label(key, value));
    let builder = args.windows.iter().fold(builder, |builder, &window| builder.window(window));
    layout.groups.iter().fold(builder, |builder, group| {
        builder.group(&group.name, group.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.elements())))
    })
}
