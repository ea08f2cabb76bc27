//! Describing a run. Nothing is checked before [`RunBuilder::open`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use gradwatch_proto::v1;
use gradwatch_spectral::encoding::Encoding;
use gradwatch_spectral::sketch::{DEFAULT_DIM, Sketcher};
use uuid::Uuid;

use crate::credentials::{Authorization, Token, endpoint};
use crate::declared::{check_buffer, check_groups, check_kinds, check_windows};
use crate::error::OpenError;
use crate::launch::Launch;
use crate::layer::{Layer, check_layers};
use crate::repeatable::{Continuation, RepeatableAttempt};
use crate::run::Run;
use crate::spec::{Kind, Spec};
use crate::spool::{RunSpool, Spool};
use crate::uploader::Connection;
use crate::validate::{check_name, text_problem};

/// Memory for frames unless another amount is given.
pub const DEFAULT_BUFFER_BYTES: usize = 64 << 20;
/// How long [`Run::close`] waits unless told otherwise.
pub const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may go without acknowledging frames it was sent, unless told otherwise.
pub const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Keeps deadlines inside what a clock can say.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// As many as a server takes.
const MAX_SHARDS: u32 = 1_024;

/// What a run is. Made by [`Run::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `open`"]
pub struct RunBuilder {
    server: String,
    token: Option<Token>,
    ca_certificate: Option<String>,
    project: String,
    name: String,
    labels: BTreeMap<String, String>,
    config: serde_json::Value,
    run_id: Option<Uuid>,
    launch: Option<Launch>,
    shard: u32,
    shard_count: u32,
    resume_from: Option<(Uuid, u64)>,
    resume_newest: Option<u64>,
    repeatable: Option<RepeatableAttempt>,
    unrelated: bool,
    spool: Option<Spool>,
    offline: bool,
    groups: Vec<(String, Vec<(String, u64)>)>,
    layers: Vec<(String, Layer)>,
    kinds: Vec<Kind>,
    windows: Vec<u32>,
    sketch_dim: usize,
    seed: u64,
    encoding: Encoding,
    update_interval: u32,
    buffer_bytes: usize,
    close_timeout: Duration,
    stall_timeout: Duration,
}

/// What the training thread works by.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    pub(crate) sketcher: Sketcher,
    pub(crate) launch: Launch,
    pub(crate) resumes: Option<v1::Resumes>,
    pub(crate) first_seq: u64,
    pub(crate) unrelated: bool,
    pub(crate) close_timeout: Duration,
    /// The request that opens an attempt, but for the attempt and its spec.
    pub(crate) request: v1::OpenRunRequest,
    pub(crate) spool_dir: Option<PathBuf>,
    pub(crate) offline: bool,
}

/// What the uploader works by.
pub(crate) struct Delivery {
    pub(crate) connection: Connection,
    pub(crate) buffer_bytes: usize,
    /// Where the first attempt goes on, when it is one that another process began.
    pub(crate) continues: Option<Continuation>,
    /// Where frames are kept on disk.
    pub(crate) spool: Option<RunSpool>,
    /// The server is never talked to.
    pub(crate) offline: bool,
}

impl RunBuilder {
    pub(crate) fn new(server: String) -> Self {
        Self {
            server,
            token: None,
            ca_certificate: None,
            project: String::new(),
            name: String::new(),
            labels: BTreeMap::new(),
            config: serde_json::Value::Object(serde_json::Map::new()),
            run_id: None,
            launch: None,
            shard: 0,
            shard_count: 1,
            resume_from: None,
            resume_newest: None,
            repeatable: None,
            unrelated: false,
            spool: None,
            offline: false,
            groups: Vec::new(),
            layers: Vec::new(),
            kinds: vec![Kind::Update],
            windows: Vec::new(),
            sketch_dim: DEFAULT_DIM,
            seed: 0,
            encoding: Encoding::default(),
            update_interval: 1,
            buffer_bytes: DEFAULT_BUFFER_BYTES,
            close_timeout: DEFAULT_CLOSE_TIMEOUT,
            stall_timeout: DEFAULT_STALL_TIMEOUT,
        }
    }

    /// The token that lets the run in, with the scope `ingest`. Default: `GRADWATCH_TOKEN`, if it is set.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token(token.into()));
        self
    }

    /// PEM certificates of the authority that an `https` server must be certified by. Default: those that the system
    /// trusts.
    pub fn ca_certificate(mut self, pem: impl Into<String>) -> Self {
        self.ca_certificate = Some(pem.into());
        self
    }

    /// The project that the run belongs to. Required.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// The run's name, which need not be unique. Required.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// A label to find the run by. A second value for a key replaces the first.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Hyperparameters and whatever else identifies the job: a JSON object. Default `{}`.
    pub fn config(mut self, config: serde_json::Value) -> Self {
        self.config = config;
        self
    }

    /// The run's id, to be able to resume it. Random by default.
    pub fn run_id(mut self, run_id: Uuid) -> Self {
        self.run_id = Some(run_id);
        self
    }

    /// The launch that this process is part of. It brings the run's id.
    pub fn launch(mut self, launch: Launch) -> Self {
        self.launch = Some(launch);
        self
    }

    /// This process is number `index`, from 0, of `count` whose sketches add up: each submits the slices that it owns.
    /// All of them are given the same [`RunBuilder::launch`] and declare the same groups, with whole tensors' sizes.
    /// Default: one process that holds everything.
    pub fn shard(mut self, index: u32, count: u32) -> Self {
        (self.shard, self.shard_count) = (index, count);
        self
    }

    /// This launch continues an attempt of the same run, whose last step that still stands is `step`.
    pub fn resume_from(mut self, attempt_id: Uuid, step: u64) -> Self {
        self.resume_from = Some((attempt_id, step));
        self
    }

    /// This launch continues the newest attempt that the server has of the run when this one is first opened, and the last
    /// step of it that still stands is `step`. A run that the server does not have is begun. What waits of it in a spool
    /// is to be delivered before: the server would not know of it.
    pub fn resume_newest(mut self, step: u64) -> Self {
        self.resume_newest = Some(step);
        self
    }

    /// This launch begins, or goes on with, an attempt whose frames can be made again.
    pub fn repeatable_attempt(mut self, attempt: RepeatableAttempt) -> Self {
        self.repeatable = Some(attempt);
        self
    }

    /// This launch resumes nothing and may all the same join a run that has attempts: it replaces their line.
    pub fn unrelated(mut self) -> Self {
        self.unrelated = true;
        self
    }

    /// Keeps on disk what the server has not acknowledged, so that it outlives this process. Default: no spool, and frames
    /// are in memory only.
    pub fn spool(mut self, spool: Spool) -> Self {
        self.spool = Some(spool);
        self
    }

    /// Never talks to the server: everything goes to the [`RunBuilder::spool`] and waits there for
    /// [`SpooledAttempt::deliver`](crate::spool::SpooledAttempt::deliver).
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// A set of parameters watched together, at least one for a run: its tensors' names and their number of elements.
    pub fn group<N: Into<String>>(
        mut self,
        name: impl Into<String>,
        tensors: impl IntoIterator<Item = (N, usize)>,
    ) -> Self {
        let tensors = tensors.into_iter().map(|(name, elements)| (name.into(), elements as u64)).collect();
        self.groups.push((name.into(), tensors));
        self
    }

    /// A named part of the model to send snapshots of, each name once for an instrument.
    pub fn layer(mut self, name: impl Into<String>, layer: Layer) -> Self {
        self.layers.push((name.into(), layer));
        self
    }

    /// What will be sketched of the groups. Default: updates only.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// A window length W, 3 to 64. May be repeated; the first is the default of every query.
    pub fn window(mut self, length: u32) -> Self {
        self.windows.push(length);
        self
    }

    /// d, the size of a sketch: a power of two from 64 to 65,536.
    pub fn sketch_dim(mut self, dim: usize) -> Self {
        self.sketch_dim = dim;
        self
    }

    /// The sketch's seed. Sketches of one seed and dimension can be compared. Default 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How sketches travel. Default [`Encoding::F16`].
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// n, the optimizer steps between two rows. Parameters and gradients in between are not looked at. Default 1.
    pub fn update_interval(mut self, steps: u32) -> Self {
        self.update_interval = steps;
        self
    }

    /// Memory for frames until the server has committed them, and for those it may ask for again. The hand-over from
    /// the training thread may take a quarter of this on top. At least 4 × (longest window + 1) × frame size, not
    /// counting snapshots; a frame with its snapshots takes at most an eighth.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// How long [`Run::close`] waits for the server. For one that is away it waits for 5 s at most when all that is left is in
    /// a spool.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// How long a server may go without acknowledging frames it was sent before the client connects anew.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Starts the run and its uploader. The network is not touched here.
    ///
    /// # Errors
    /// [`OpenError::Argument`] and [`OpenError::BufferTooSmall`] name the argument at fault; [`OpenError::Uploader`]
    /// when the machine refuses a thread.
    pub fn open(self) -> Result<Run, OpenError> {
        let (plan, delivery) = self.check()?;
        Run::start(plan, delivery)
    }

    fn check(self) -> Result<(Plan, Delivery), OpenError> {
        let endpoint = endpoint(&self.server, self.ca_certificate.as_deref())?;
        let authorization = Authorization::new(self.token)?;
        check_name("project", &self.project)?;
        check_name("name", &self.name)?;
        for (key, value) in &self.labels {
            let field = || format!("label {key:?}");
            check_name(field(), key)?;
            if let Some(problem) = text_problem(value) {
                return Err(OpenError::argument(field(), format!("its value {problem}")));
            }
        }
        if !self.config.is_object() {
            return Err(OpenError::argument("config", "is not a JSON object"));
        }
        let config_json = self.config.to_string();
        // Postgres refuses NUL inside JSON as well; this is how it is written there.
        if config_json.contains("\\u0000") {
            return Err(OpenError::argument("config", "holds a NUL character"));
        }
        if !(1..=MAX_SHARDS).contains(&self.shard_count) {
            return Err(OpenError::argument("shard", format!("count {} is not between 1 and 1024", self.shard_count)));
        }
        if self.shard >= self.shard_count {
            let problem = format!("index {} is not below count {}", self.shard, self.shard_count);
            return Err(OpenError::argument("shard", problem));
        }
        if self.shard_count > 1 && self.launch.is_none() {
            return Err(OpenError::argument("launch", "is missing: shards are opened with one they share"));
        }
        let launch = match (self.launch, self.run_id) {
            (Some(launch), Some(run_id)) if launch.run_id() != run_id => {
                return Err(OpenError::argument("run_id", "is not that of the launch"));
            }
            (Some(launch), _) => launch,
            (None, Some(run_id)) => Launch::of_run(run_id),
            (None, None) => Launch::new(),
        };
        let launch = self.repeatable.as_ref().map_or(launch, |it| launch.with_attempt(it.attempt_id));
        if self.resume_from.is_some() && self.resume_newest.is_some() {
            return Err(OpenError::argument("resume_newest", "contradicts resume_from"));
        }
        let (resume, resumes) = match (self.resume_from, self.resume_newest) {
            (Some((attempt_id, step)), _) => {
                ("resume_from", Some(v1::Resumes { attempt_id: attempt_id.to_string(), step }))
            }
            (None, newest) => ("resume_newest", newest.map(|step| v1::Resumes { attempt_id: String::new(), step })),
        };
        if self.unrelated && resumes.is_some() {
            return Err(OpenError::argument("unrelated", format!("contradicts {resume}")));
        }
        let repeatable = self.repeatable;
        if let Some(attempt) = &repeatable {
            if resumes.is_some() {
                return Err(OpenError::argument("repeatable_attempt", format!("contradicts {resume}")));
            }
            if self.launch.is_some() {
                return Err(OpenError::argument(
                    "repeatable_attempt",
                    "contradicts launch, which names another attempt",
                ));
            }
            attempt.check()?;
        }
        if let Some(v1::Resumes { step, .. }) = resumes
            && step > crate::validate::MAX_STEP
        {
            return Err(OpenError::argument(resume, format!("step {step} is not below 2^53")));
        }
        if self.stall_timeout.is_zero() || self.stall_timeout > MAX_TIMEOUT {
            return Err(OpenError::argument("stall_timeout", "is not between 0 and a day"));
        }
        if self.close_timeout > MAX_TIMEOUT {
            return Err(OpenError::argument("close_timeout", "is longer than a day"));
        }
        check_layers(&self.layers)?;
        let sketcher = Sketcher::new(self.sketch_dim, self.seed)
            .map_err(|error| OpenError::argument("sketch_dim", error.to_string()))?;
        let spec = Spec {
            sketch_dim: self.sketch_dim,
            sketch_seed: self.seed,
            encoding: self.encoding,
            window_lengths: check_windows(self.windows)?,
            groups: check_groups(self.groups)?,
            kinds: check_kinds(self.kinds)?,
            update_interval: self.update_interval,
            is_whole: self.shard_count == 1,
            layers: self.layers,
        };
        if spec.update_interval == 0 {
            return Err(OpenError::argument("update_interval", "is zero"));
        }
        check_buffer(&spec, self.buffer_bytes)?;
        match &self.spool {
            Some(_) if repeatable.is_some() => {
                return Err(OpenError::argument("spool", "contradicts repeatable_attempt"));
            }
            Some(spool) => spool.check(self.buffer_bytes)?,
            None if self.offline => return Err(OpenError::argument("offline", "needs a spool to write to")),
            None => {}
        }
        let request = v1::OpenRunRequest {
            run_id: launch.run_id().to_string(),
            project: self.project,
            name: self.name,
            labels: self.labels,
            config_json,
            attempt: None,
            shard: self.shard,
            shard_count: self.shard_count,
            writer_id: repeatable.as_ref().map_or_else(|| Uuid::new_v4().to_string(), |it| it.writer_id.clone()),
            spec: None,
        };
        let spool_dir = self.spool.as_ref().map(|spool| spool.dir().to_owned());
        let delivery = Delivery {
            spool: self.spool.map(|spool| RunSpool::new(spool, self.server)),
            offline: self.offline,
            connection: Connection::new(endpoint, authorization, self.stall_timeout),
            buffer_bytes: self.buffer_bytes,
            continues: repeatable.as_ref().map(RepeatableAttempt::continuation),
        };
        let plan = Plan {
            spec,
            sketcher,
            launch,
            resumes,
            first_seq: repeatable.as_ref().map_or(1, |it| it.first_seq),
            unrelated: self.unrelated,
            close_timeout: self.close_timeout,
            request,
            spool_dir,
            offline: self.offline,
        };
        Ok((plan, delivery))
    }
}
