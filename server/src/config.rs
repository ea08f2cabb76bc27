//! Configuration: the documented default file, overlaid by a file, the environment and flags, validated once. Nothing
//! else in the server reads the environment.

mod alerts;
mod database_url;
mod environment;
mod projects;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    providers::{Format, Serialized, Toml},
};
use gradwatch_spectral::detectors::DetectorConfig;
use serde::{Deserialize, Serialize};

use crate::{access::Secret, tls};

/// The default file: every setting with its documentation.
pub const DEFAULT_FILE: &str = include_str!("../config.default.toml");

/// Holds the text of a first token. No setting, so that nothing that prints settings prints it.
const BOOTSTRAP_VARIABLE: &str = "GRADWATCH_BOOTSTRAP_TOKEN";

/// Rates above are no limits, and too fine to count.
const MAX_REQUESTS_PER_S: usize = 1_000_000;

pub use alerts::Alerts;
pub use database_url::DatabaseUrl;
pub use projects::{Instruments, Project};

/// Everything that can be set. The default file documents each field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml documents every setting once")]
pub struct Config {
    pub listen: SocketAddr,
    pub insecure: bool,
    #[serde(default)]
    pub tls_cert: Option<PathBuf>,
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
    pub data_dir: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<DatabaseUrl>,
    pub shutdown_deadline_s: u64,
    pub numeric_threads: usize,
    pub snapshot_threads: usize,
    pub memory_limit_bytes: usize,
    pub keep_sketches: usize,
    pub log: Log,
    pub access: Access,
    pub limits: Limits,
    pub liveness: Liveness,
    pub retention: Retention,
    pub api: Api,
    pub alerts: Alerts,
    pub instruments: Instruments,
    pub detectors: DetectorConfig,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub projects: BTreeMap<String, Project>,
    #[serde(skip)]
    pub bootstrap_token: Option<Secret>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml documents every setting once")]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "config.default.toml documents every setting once")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml documents every setting once")]
pub struct Access {
    pub require_tokens: bool,
    pub requests_per_s: usize,
    pub frame_bytes_per_s: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml documents every setting once")]
pub struct Limits {
    pub max_window_bytes: u64,
    pub max_message_bytes: usize,
    pub max_scalars_per_frame: usize,
    pub max_scalar_names: usize,
    pub max_windows: usize,
    pub max_frames_per_message: usize,
    pub max_name_bytes: usize,
    pub max_labels: usize,
    pub max_config_bytes: usize,
    pub max_layers: usize,
    pub max_backlog_bytes: u64,
    pub max_prediction_bytes: u64,
    pub max_sketch_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml documents every setting once")]
pub struct Liveness {
    pub heartbeat_ms: u64,
    pub crashed_after_s: u64,
    pub stalled_after_s: u64,
    pub stalled_intervals: u32,
    pub assembly_timeout_s: u64,
    pub check_every_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml documents every setting once")]
pub struct Retention {
    pub days: u32,
    pub check_every_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml documents every setting once")]
pub struct Api {
    pub cors_origins: Vec<String>,
    pub replay_bytes: usize,
    pub max_streams: usize,
}

/// Flags of `serve` that overlay everything else.
#[derive(Clone, Debug, Default, Serialize, clap::Args)]
pub struct Flags {
    /// Where REST and gRPC listen, such as 127.0.0.1:7700
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Where SQLite keeps its files
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Ask nobody for a token, also beyond loopback
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// A PEM file with the server's certificate, and those between it and its authority; needs --tls-key
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the certificate's private key
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named does not exist.
    #[error("configuration file {0} does not exist")]
    NoFile(PathBuf),
    /// A file or variable cannot be read as settings.
    #[error("{0}")]
    Unreadable(Box<figment::Error>),
    /// A file is not TOML. Where, and no more: the line may hold a password.
    #[error("configuration file {} is not TOML: line {line}, column {column}", file.display())]
    NotToml {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
    },
    /// What a project has otherwise cannot be used.
    #[error("projects.{project:?}.{section}: {message}")]
    Project {
        /// The project.
        project: String,
        /// `detectors` or `instruments`.
        section: &'static str,
        /// What is wrong; names the setting.
        message: String,
    },
    /// A value is out of range, or contradicts another.
    #[error("{field}: {message}")]
    Invalid {
        /// The setting at fault.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
}

impl Config {
    /// Reads defaults, `file`, the environment and `flags`, in this order, and validates the result.
    ///
    /// # Errors
    /// Names the file, variable or setting at fault.
    pub fn load(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULT_FILE));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError::NoFile(file.to_owned()));
            }
            check_syntax(file)?;
            figment = figment.merge(Toml::file_exact(file));
        }
        let mut config: Self = figment
            .merge(environment::database_url())
            .merge(environment::settings())
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(|error| ConfigError::Unreadable(Box::new(error)))?;
        config.bootstrap_token = bootstrap_token()?;
        config.validate()?;
        Ok(config)
    }

    /// The defaults with another place to listen and to keep data; what tests and the demo start from.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn embedded(listen: SocketAddr, data_dir: &Path) -> Result<Self, ConfigError> {
        let config: Self = Figment::from(Toml::string(DEFAULT_FILE))
            .merge(Serialized::default("listen", listen))
            .merge(Serialized::default("data_dir", data_dir))
            .extract()
            .map_err(|error| ConfigError::Unreadable(Box::new(error)))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks every setting, and those that depend on each other.
    ///
    /// # Errors
    /// Names the setting at fault.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |field, message: String| Err(ConfigError::Invalid { field, message });
        if self.insecure && self.access.require_tokens {
            return invalid("insecure", "contradicts access.require_tokens".into());
        }
        if self.access.requests_per_s > MAX_REQUESTS_PER_S {
            return invalid("access.requests_per_s", format!("must be at most {MAX_REQUESTS_PER_S}; 0 is no limit"));
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return invalid("tls_key", "is missing; tls_cert needs it".into()),
            (None, Some(_)) => return invalid("tls_cert", "is missing; tls_key needs it".into()),
            (Some(cert), Some(key)) => {
                tls::acceptor(cert, key)?;
            }
            (None, None) => {}
        }
        if let Some(Err(message)) = self.database_url.as_ref().map(DatabaseUrl::check) {
            return invalid("database_url", message);
        }
        if self.limits.max_message_bytes < 1 << 16 {
            return invalid("limits.max_message_bytes", "must be at least 65,536".into());
        }
        if self.memory_limit_bytes < 4 * self.limits.max_message_bytes {
            return invalid(
                "memory_limit_bytes",
                format!("must be at least four times limits.max_message_bytes ({})", self.limits.max_message_bytes),
            );
        }
        for (field, value) in [
            ("shutdown_deadline_s", self.shutdown_deadline_s),
            ("limits.max_window_bytes", self.limits.max_window_bytes),
            ("limits.max_windows", self.limits.max_windows as u64),
            ("limits.max_frames_per_message", self.limits.max_frames_per_message as u64),
            ("limits.max_name_bytes", self.limits.max_name_bytes as u64),
            ("liveness.heartbeat_ms", self.liveness.heartbeat_ms),
            ("liveness.crashed_after_s", self.liveness.crashed_after_s),
            ("liveness.stalled_after_s", self.liveness.stalled_after_s),
            ("liveness.assembly_timeout_s", self.liveness.assembly_timeout_s),
            ("liveness.check_every_ms", self.liveness.check_every_ms),
            ("retention.check_every_s", self.retention.check_every_s),
            ("alerts.check_file_every_s", self.alerts.check_file_every_s),
            ("alerts.evaluate_every_ms", self.alerts.evaluate_every_ms),
            ("alerts.keep_days", self.alerts.keep_days.into()),
        ] {
            if value == 0 {
                return invalid(field, "must be at least 1".into());
            }
        }
        if self.liveness.crashed_after_s * 1_000 < 2 * self.liveness.heartbeat_ms {
            return invalid("liveness.crashed_after_s", "must be at least two heartbeats long".into());
        }
        for origin in &self.api.cors_origins {
            if !(origin.starts_with("https://") || origin.starts_with("http://")) || origin.ends_with('/') {
                return invalid(
                    "api.cors_origins",
                    format!("{origin:?} is not an origin such as \"https://dashboards.example.org\""),
                );
            }
        }
        if let Some(url) = &self.alerts.public_url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            return invalid(
                "alerts.public_url",
                format!("{url:?} is no address such as \"https://gradwatch.example.org\""),
            );
        }
        self.detectors
            .validate()
            .map_err(|error| ConfigError::Invalid { field: "detectors", message: error.to_string() })?;
        self.validate_projects()
    }

    /// Whether callers are asked for a token: always beyond loopback unless `insecure`.
    #[must_use]
    pub fn requires_tokens(&self) -> bool {
        self.access.require_tokens || !(self.insecure || self.listen.ip().is_loopback())
    }

    /// How long a shutdown may take.
    #[must_use]
    pub fn shutdown_deadline(&self) -> Duration {
        Duration::from_secs(self.shutdown_deadline_s)
    }

    /// Threads for numerical work.
    #[must_use]
    pub fn numeric_threads(&self) -> usize {
        match self.numeric_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Threads that read snapshots.
    #[must_use]
    pub fn snapshot_threads(&self) -> usize {
        match self.snapshot_threads {
            0 => (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1),
            threads => threads,
        }
    }
}

/// Finds what is not TOML before anyone does who quotes it.
fn check_syntax(file: &Path) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let message = format!("configuration file {}: {error}", file.display());
        ConfigError::Unreadable(Box::new(message.into()))
    })?;
    let Err(error) = text.parse::<toml::Table>() else { return Ok(()) };
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    Err(ConfigError::NotToml {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before.chars().rev().take_while(|character| *character != '\n').count() + 1,
    })
}

/// The first token, if there is to be one. An empty variable is none: that is what templates make of a missing value.
fn bootstrap_token() -> Result<Option<Secret>, ConfigError> {
    let invalid = |message: String| ConfigError::Invalid { field: BOOTSTRAP_VARIABLE, message };
    match std::env::var(BOOTSTRAP_VARIABLE) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Secret::chosen(text).map(Some).map_err(|error| invalid(error.to_string())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(invalid("is no text".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_documents_every_threshold_with_its_default() {
        let file: toml::Table = DEFAULT_FILE.parse().expect("valid TOML");
        let defaults = toml::Table::try_from(DetectorConfig::default()).expect("a table");
        assert_eq!(file["detectors"], toml::Value::Table(defaults));
    }

    #[test]
    fn tokens_are_asked_for_beyond_loopback() {
        let asks = |listen: &str, insecure, require_tokens| {
            let mut config = Config::embedded(listen.parse().expect("an address"), Path::new("data")).expect("valid");
            (config.insecure, config.access.require_tokens) = (insecure, require_tokens);
            config.requires_tokens()
        };
        for loopback in ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0"] {
            assert!(!asks(loopback, false, false));
            assert!(asks(loopback, false, true));
        }
        for beyond in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            assert!(asks(beyond, false, false));
            assert!(asks(beyond, false, true));
            assert!(!asks(beyond, true, false));
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        let config = Config::embedded(SocketAddr::from(([127, 0, 0, 1], 0)), Path::new("data")).expect("valid");
        let refused = |change: fn(&mut Config)| {
            let mut config = config.clone();
            change(&mut config);
            match config.validate() {
                Err(ConfigError::Invalid { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        let contradiction = |it: &mut Config| (it.insecure, it.access.require_tokens) = (true, true);
        assert_eq!(refused(contradiction), "insecure");
        assert_eq!(refused(|it| it.access.requests_per_s = usize::MAX), "access.requests_per_s");
        assert_eq!(refused(|it| it.tls_cert = Some("cert.pem".into())), "tls_key");
        assert_eq!(refused(|it| it.tls_key = Some("key.pem".into())), "tls_cert");
        assert_eq!(refused(|it| it.memory_limit_bytes = it.limits.max_message_bytes), "memory_limit_bytes");
        assert_eq!(refused(|it| it.liveness.crashed_after_s = 1), "liveness.crashed_after_s");
        assert_eq!(refused(|it| it.api.cors_origins = vec!["example.org".into()]), "api.cors_origins");
        assert_eq!(refused(|it| it.database_url = Some("mysql://host".into())), "database_url");
        assert_eq!(refused(|it| it.detectors.spike.z_above = f64::NAN), "detectors");
    }
}
