//! A job that trains on made parameters and streams through the real client.

use std::time::Duration;

use gradwatch_client::{CloseReport, Encoding, Frame, Run, RunBuilder};
use uuid::Uuid;

/// The tensor's name.
pub const TENSOR: &str = "w";
/// What a job says its learning rate is.
pub const LEARNING_RATE: f64 = 1e-3;

/// What a job says its loss is.
pub fn loss(step: u64) -> f64 {
    1.0 / (1.0 + step as f64)
}

/// How a job streams.
pub struct JobOptions {
    /// d.
    pub dim: usize,
    /// Seed of the sketch.
    pub seed: u64,
    /// W.
    pub windows: Vec<u32>,
    /// Number of parameters.
    pub len: usize,
    /// Names of the groups, and every how many steps each is submitted.
    pub groups: Vec<(&'static str, u64)>,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self { dim: 256, seed: 5, windows: vec![10], len: 5_000, groups: vec![("all", 1)] }
    }
}

/// A run of the real client. Every group has one tensor `w`.
pub struct Job {
    /// The client's run.
    pub run: Run,
    groups: Vec<(&'static str, u64)>,
}

impl Job {
    /// Opens a run with float32 on the wire, which can be recomputed to the bit.
    pub fn open(url: &str, options: &JobOptions) -> Self {
        Self::open_with(url, options, |builder| builder)
    }

    /// Opens a run that was changed further.
    pub fn open_with(url: &str, options: &JobOptions, change: impl FnOnce(RunBuilder) -> RunBuilder) -> Self {
        let run = change(Self::builder(url, options)).open().expect("valid arguments");
        Self { run, groups: options.groups.clone() }
    }

    /// What `open` opens, to be changed.
    pub fn builder(url: &str, options: &JobOptions) -> RunBuilder {
        let builder = Run::builder(url)
            .project("tests")
            .name("job")
            .sketch_dim(options.dim)
            .seed(options.seed)
            .encoding(Encoding::F32)
            .close_timeout(Duration::from_secs(60));
        let groups = options.groups.iter();
        let builder = groups.fold(builder, |builder, (group, _)| builder.group(*group, [(TENSOR, options.len)]));
        options.windows.iter().fold(builder, |builder, &window| builder.window(window))
    }

    /// The run's id.
    pub fn run_id(&self) -> Uuid {
        self.run.run_id()
    }

    /// Submits the parameters at a step.
    pub fn submit(&mut self, step: u64, parameters: &[f32]) {
        let mut frame = Frame::new().learning_rate(LEARNING_RATE).scalar("loss", loss(step));
        for (group, every) in &self.groups {
            if step.is_multiple_of(*every) {
                frame = frame.parameters(group, [(TENSOR, parameters)]);
            }
        }
        self.run.submit(step, frame).expect("a valid frame");
    }

    /// Takes the parameters at a step as what the next updates start from.
    pub fn set_base(&mut self, step: u64, parameters: &[f32]) {
        let groups = self.groups.iter();
        let frame = groups.fold(Frame::new(), |frame, (group, _)| frame.parameters(group, [(TENSOR, parameters)]));
        self.run.set_base(step, frame).expect("a valid frame");
    }

    /// Waits until so many frames are settled.
    pub async fn settled(&self, frames: u64) {
        let settling = async {
            while self.run.status().settled < frames {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::PATIENCE, settling).await.expect("frames are settled");
    }

    /// Closes without blocking the test's runtime; everything has to have been settled.
    pub async fn close(self) -> CloseReport {
        let report = self.close_lossy().await;
        assert_eq!(report.settled, report.submitted, "{report}");
        report
    }

    /// Closes without blocking the test's runtime; frames may have been lost.
    pub async fn close_lossy(self) -> CloseReport {
        tokio::task::spawn_blocking(move || self.run.close()).await.expect("close does not panic")
    }
}
