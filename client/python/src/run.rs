//! The run, as the Python package drives it.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use gradwatch_client::spool::Spool;
use gradwatch_client::{CloseReport, Encoding, Frame, Kind, Launch, Outcome, Uuid};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::sketches::Sketches;
use crate::snapshots::{DeclaredLayer, Snapshot, instrument_of, layer};

/// How often somebody who waits for the end of a run looks whether Ctrl-C was pressed.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(50);

/// A text that tells other processes which run and attempt they are part of; of a run that exists, if its id is given.
#[pyfunction]
#[pyo3(signature = (run_id=None))]
pub(crate) fn new_launch(run_id: Option<&str>) -> PyResult<String> {
    Ok(match run_id {
        None => Launch::new(),
        Some(run_id) => Launch::of_run(uuid("run_id", run_id)?),
    }
    .to_string())
}

/// A group: its name, and its tensors with their numbers of elements.
type DeclaredGroup = (String, Vec<(String, usize)>);

/// A run that is delivered to a server. All mistakes in a call are ValueError; what the network does is none.
#[pyclass(module = "gradwatch._native")]
pub(crate) struct Run {
    /// None once it is closed. Locked by threads that are detached from the interpreter only: one that waited for the lock
    /// attached, while its holder waits to attach, would wait for ever.
    inner: Mutex<Option<gradwatch_client::Run>>,
    /// The process that opened it, and that its uploader runs in.
    process_id: u32,
}

/// Invariant: a forked child touches nothing of its parent's run. The uploader is not there, and may have held any lock of
/// the run at the moment of the fork: whoever waited for that would wait for ever.
impl Drop for Run {
    fn drop(&mut self) {
        if !self.is_ours() {
            std::mem::forget(std::mem::take(&mut self.inner));
        }
    }
}

#[pymethods]
impl Run {
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "all are named: see _native.pyi")]
    #[pyo3(signature = (
        *, server, token, project, name, labels, config_json, launch, shard, resumes, groups, layers, windows,
        sketch_dim, seed, encoding, update_interval, buffer_bytes, close_timeout, spool_dir, offline
    ))]
    fn open(
        py: Python<'_>,
        server: String,
        token: Option<String>,
        project: String,
        name: String,
        labels: Vec<(String, String)>,
        config_json: &str,
        launch: &str,
        shard: (u32, u32),
        resumes: Option<(Option<String>, u64)>,
        groups: Vec<DeclaredGroup>,
        layers: Vec<DeclaredLayer>,
        windows: Vec<u32>,
        sketch_dim: usize,
        seed: u64,
        encoding: &str,
        update_interval: u32,
        buffer_bytes: Option<usize>,
        close_timeout: f64,
        spool_dir: Option<String>,
        offline: bool,
    ) -> PyResult<Self> {
        let launch: Launch = launch.parse().map_err(|error: gradwatch_client::LaunchError| invalid(error))?;
        let config = serde_json::from_str(config_json)
            .map_err(|error| PyValueError::new_err(format!("config: is no JSON: {error}")))?;
        let mut builder = gradwatch_client::Run::builder(server)
            .project(project)
            .name(name)
            .config(config)
            .launch(launch)
            .shard(shard.0, shard.1)
            .sketch_dim(sketch_dim)
            .seed(seed)
            .encoding(encoding_of(encoding)?)
            .update_interval(update_interval)
            .close_timeout(seconds("close_timeout", close_timeout)?);
        if let Some(token) = token {
            builder = builder.token(token);
        }
        match resumes {
            None => {}
            Some((None, step)) => builder = builder.resume_newest(step),
            Some((Some(attempt_id), step)) => builder = builder.resume_from(uuid("resumes", &attempt_id)?, step),
        }
        if let Some(buffer_bytes) = buffer_bytes {
            builder = builder.buffer_bytes(buffer_bytes);
        }
        for (key, value) in labels {
            builder = builder.label(key, value);
        }
        for (name, tensors) in groups {
            builder = builder.group(name, tensors);
        }
        for declared in layers {
            let (name, layer) = layer(declared)?;
            builder = builder.layer(name, layer);
        }
        for window in windows {
            builder = builder.window(window);
        }
        if let Some(dir) = spool_dir {
            builder = builder.spool(Spool::new(dir));
        }
        if offline {
            builder = builder.offline();
        }
        let inner = py.detach(|| builder.open()).map_err(invalid)?;
        Ok(Self { inner: Mutex::new(Some(inner)), process_id: std::process::id() })
    }

    /// The run's id.
    #[getter]
    fn run_id(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |run| run.run_id().to_string())
    }

    /// The current attempt's id.
    #[getter]
    fn attempt_id(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |run| run.attempt_id().to_string())
    }

    /// Whether a sketch of the group would be looked at.
    fn is_due(&self, py: Python<'_>, group: &str, step: u64) -> PyResult<bool> {
        self.with(py, |run| run.is_due(Kind::Update, group, step))?.map_err(invalid)
    }

    /// Whether a snapshot of the layer would be looked at.
    fn snapshot_due(&self, py: Python<'_>, instrument: &str, layer: &str, step: u64) -> PyResult<bool> {
        let instrument = instrument_of(instrument)?;
        self.with(py, |run| run.snapshot_due(instrument, layer, step))?.map_err(invalid)
    }

    /// Hands over one step. `sketches` are those of the parameters behind it.
    #[expect(clippy::too_many_arguments, reason = "all are named: see _native.pyi")]
    #[pyo3(signature = (
        step, *, phase, learning_rate, weight_decay, group_rates, scalars, sketches, snapshots, happened
    ))]
    fn submit(
        &self,
        py: Python<'_>,
        step: u64,
        phase: u32,
        learning_rate: Option<f64>,
        weight_decay: Option<f64>,
        group_rates: Vec<(String, Option<f64>, Option<f64>)>,
        scalars: Vec<(String, f64)>,
        sketches: Option<PyRef<'_, Sketches>>,
        snapshots: Vec<PyRef<'_, Snapshot>>,
        happened: Vec<String>,
    ) -> PyResult<()> {
        let of_groups: Vec<(&str, Vec<f64>)> = sketches.as_ref().map_or_else(Vec::new, |it| it.of_groups().collect());
        let mut frame = Frame::new().phase(phase);
        if let Some(learning_rate) = learning_rate {
            frame = frame.learning_rate(learning_rate);
        }
        if let Some(weight_decay) = weight_decay {
            frame = frame.weight_decay(weight_decay);
        }
        for (group, learning_rate, weight_decay) in &group_rates {
            frame = frame.group_optimizer(group, *learning_rate, *weight_decay);
        }
        for (name, value) in &scalars {
            frame = frame.scalar(name, *value);
        }
        for (group, sketch) in &of_groups {
            frame = frame.sketched_parameters(group, sketch);
        }
        for snapshot in &snapshots {
            frame = snapshot.add_to(frame)?;
        }
        for name in &happened {
            frame = frame.happened(name);
        }
        self.with(py, |run| run.submit(step, frame))?.map_err(invalid)
    }

    /// What the next updates start from: the parameters of `step`.
    fn set_base(&self, py: Python<'_>, step: u64, sketches: PyRef<'_, Sketches>) -> PyResult<()> {
        let of_groups: Vec<(&str, Vec<f64>)> = sketches.of_groups().collect();
        let frame =
            of_groups.iter().fold(Frame::new(), |frame, (group, sketch)| frame.sketched_parameters(group, sketch));
        self.with(py, |run| run.set_base(step, frame))?.map_err(invalid)
    }

    /// Training went back: `step` comes next.
    fn rewind_to(&self, py: Python<'_>, step: u64) -> PyResult<()> {
        self.with(py, |run| run.rewind_to(step))?.map_err(invalid)
    }

    /// From `step` on a row comes every `steps` steps: a new attempt begins, which resumes this one at `step − 1`. Its bases
    /// are to be set anew.
    fn change_update_interval(&self, py: Python<'_>, step: u64, steps: u32) -> PyResult<()> {
        self.with(py, |run| run.change_update_interval(step, steps))?.map_err(invalid)
    }

    /// The same with other groups, given as to `open`.
    fn change_groups(&self, py: Python<'_>, step: u64, groups: Vec<DeclaredGroup>) -> PyResult<()> {
        self.with(py, |run| run.change_groups(step, groups))?.map_err(invalid)
    }

    /// Counters: submitted, settled, dropped, rejected, spooled, spooled_bytes, buffered_bytes, connected, segment.
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let status = self.with(py, |run| run.status())?;
        let dict = PyDict::new(py);
        dict.set_item("submitted", status.submitted)?;
        dict.set_item("settled", status.settled)?;
        dict.set_item("dropped", status.dropped)?;
        dict.set_item("rejected", status.rejected)?;
        dict.set_item("spooled", status.spooled)?;
        dict.set_item("spooled_bytes", status.spooled_bytes)?;
        dict.set_item("buffered_bytes", status.buffered_bytes)?;
        dict.set_item("connected", status.connected)?;
        dict.set_item("segment", status.segment)?;
        Ok(dict)
    }

    /// Why nothing is delivered at present.
    fn problem(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.with(py, |run| run.problem())
    }

    /// Ends the run: "finished", "failed" or "preempted". Gives what became of its frames, in numbers and in words. Waits for
    /// the server as long as the run was opened with, or `timeout` seconds; a signal (Ctrl-C) ends the waiting, and the
    /// run's end goes on to be delivered as long as the process lives.
    #[pyo3(signature = (outcome, timeout=None))]
    fn close<'py>(&self, py: Python<'py>, outcome: &str, timeout: Option<f64>) -> PyResult<Bound<'py, PyDict>> {
        let outcome = match outcome {
            "finished" => Outcome::Finished,
            "failed" => Outcome::Failed,
            "preempted" => Outcome::Preempted,
            _ => {
                let problem = format!("outcome: {outcome:?} is none of finished, failed, preempted");
                return Err(PyValueError::new_err(problem));
            }
        };
        let timeout = timeout.map(|timeout| seconds("timeout", timeout)).transpose()?;
        self.check_process()?;
        let run = py.detach(|| self.take()).ok_or_else(closed)?;
        let run = match timeout {
            Some(timeout) => run.with_close_timeout(timeout),
            None => run,
        };
        let (sender, mut report) = channel();
        // Nobody may be there to hear it any more.
        let closing = move || drop(sender.send(run.close_with(outcome)));
        thread::Builder::new().name("gradwatch-close".to_owned()).spawn(closing)?;
        loop {
            let answer;
            (answer, report) = py.detach(move || (report.recv_timeout(SIGNAL_INTERVAL), report));
            match answer {
                Ok(report) => return said(py, &report),
                Err(RecvTimeoutError::Timeout) => py.check_signals()?,
                Err(RecvTimeoutError::Disconnected) => return Err(closed()),
            }
        }
    }

    /// Lets the run go without saying that the job is over: delivers what is left, for `timeout` seconds at most.
    fn abandon(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = seconds("timeout", timeout)?;
        self.check_process()?;
        py.detach(|| self.take().map(|run| run.abandon(timeout)));
        Ok(())
    }
}

impl Run {
    fn is_ours(&self) -> bool {
        std::process::id() == self.process_id
    }

    fn check_process(&self) -> PyResult<()> {
        if self.is_ours() { Ok(()) } else { Err(PyRuntimeError::new_err("the run is that of another process")) }
    }

    fn with<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&mut gradwatch_client::Run) -> T + Send) -> PyResult<T> {
        self.check_process()?;
        let answer = py.detach(|| {
            // A run is whole after a panic in one of its calls: it takes a frame at once or not at all.
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.as_mut().map(call)
        });
        answer.ok_or_else(closed)
    }

    fn take(&self) -> Option<gradwatch_client::Run> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What became of a run's frames.
fn said<'py>(py: Python<'py>, report: &CloseReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("submitted", report.submitted)?;
    dict.set_item("settled", report.settled)?;
    dict.set_item("dropped", report.dropped)?;
    dict.set_item("rejected", report.rejected)?;
    dict.set_item("spooled", report.spooled)?;
    dict.set_item("undelivered", report.undelivered)?;
    let lost = report.dropped + report.rejected + report.undelivered;
    dict.set_item("complete", report.reason.is_none() && lost == 0)?;
    dict.set_item("words", report.to_string())?;
    Ok(dict)
}

fn encoding_of(name: &str) -> PyResult<Encoding> {
    match name {
        "f16" => Ok(Encoding::F16),
        "f32" => Ok(Encoding::F32),
        _ => Err(PyValueError::new_err(format!("encoding: {name:?} is neither f16 nor f32"))),
    }
}

fn uuid(field: &str, text: &str) -> PyResult<Uuid> {
    text.parse().map_err(|_| PyValueError::new_err(format!("{field}: {text:?} is no UUID")))
}

fn seconds(field: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{field}: {seconds} is no number of seconds")))
}

fn invalid(error: impl std::error::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn closed() -> PyErr {
    PyRuntimeError::new_err("the run is closed")
}
