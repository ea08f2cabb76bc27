//! From a wire `OpenRunRequest` to what the store is asked to open.

use std::collections::HashSet;

use gradwatch_proto::v1;
use gradwatch_spectral::{sketch, window::Window};
use gradwatch_store::{
    AttemptDeclaration, AttemptId, Encoding, GroupSpec, Kind, OpenAttempt, ResumeFrom, Resumes, RunDeclaration, RunId,
    StreamSpec, TensorSpec,
};

use super::{STEP_LIMIT, layers::layers, stream::ROW_BYTES, text};
use crate::{
    config::{Config, Instruments, Limits},
    error::{Error, ErrorCode},
};

const MAX_GROUPS: usize = 4_096;
const MAX_SHARDS: u32 = 1_024;

/// Checks a declaration field by field.
pub(super) fn open_attempt(
    request: v1::OpenRunRequest,
    config: &Config,
    now_us: i64,
    environment: &str,
) -> Result<OpenAttempt, Error> {
    let limits = &config.limits;
    let run = v1::OpenRunRequest { spec: None, attempt: None, ..request.clone() };
    let attempt = request.attempt.ok_or_else(|| Error::invalid("attempt", "is missing"))?;
    let spec = request.spec.ok_or_else(|| Error::invalid("spec", "is missing"))?;
    check("writer_id", text::name(&request.writer_id, limits.max_name_bytes))?;
    if !(1..=MAX_SHARDS).contains(&request.shard_count) {
        let message = format!("{} is not between 1 and {MAX_SHARDS}", request.shard_count);
        return Err(Error::invalid("shard_count", message));
    }
    if request.shard >= request.shard_count {
        let message = format!("{} is not below shard_count ({})", request.shard, request.shard_count);
        return Err(Error::invalid("shard", message));
    }
    let instruments = config.instruments_of(&request.project).map_err(Error::internal)?;
    let spec = stream_spec(spec, limits, &instruments)?;
    step_memory(&spec, request.shard_count, config)?;
    Ok(OpenAttempt {
        run: run_declaration(run, limits)?,
        attempt: AttemptDeclaration {
            attempt_id: attempt_id("attempt.attempt_id", &attempt.attempt_id)?,
            started_at_us: attempt.started_at_us,
            resumes: attempt.resumes.map(|it| resumes(&it)).transpose()?,
            unrelated: attempt.unrelated,
            shard_count: request.shard_count,
            spec,
        },
        shard: request.shard,
        writer_id: request.writer_id,
        now_us,
        environment: environment.to_owned(),
    })
}

/// Parses a run id.
pub(super) fn run_id(text: &str) -> Result<RunId, Error> {
    text.parse().map_err(|_| Error::invalid("run_id", format!("{text:?} is not a UUID")))
}

/// Parses an attempt id.
pub(super) fn attempt_id(field: &'static str, text: &str) -> Result<AttemptId, Error> {
    text.parse().map_err(|_| Error::invalid(field, format!("{text:?} is not a UUID")))
}

fn check(field: impl Into<String>, result: Result<(), String>) -> Result<(), Error> {
    result.map_err(|message| Error::invalid(field, message))
}

fn run_declaration(request: v1::OpenRunRequest, limits: &Limits) -> Result<RunDeclaration, Error> {
    check("project", text::name(&request.project, limits.max_name_bytes))?;
    check("name", text::value(&request.name, limits.max_name_bytes))?;
    if request.labels.len() > limits.max_labels {
        let message = format!("{} labels; the limit is {}", request.labels.len(), limits.max_labels);
        return Err(Error::invalid("labels", message));
    }
    for (key, value) in &request.labels {
        check(format!("labels[{key:?}]"), text::name(key, limits.max_name_bytes))?;
        check(format!("labels[{key:?}]"), text::value(value, limits.max_name_bytes))?;
    }
    Ok(RunDeclaration {
        run_id: run_id(&request.run_id)?,
        project: request.project,
        name: request.name,
        labels: request.labels,
        config: config(&request.config_json, limits)?,
    })
}

fn config(json: &str, limits: &Limits) -> Result<serde_json::Value, Error> {
    if json.is_empty() {
        return Ok(serde_json::json!({}));
    }
    if json.len() > limits.max_config_bytes {
        let message = format!("{} bytes long; the limit is {}", json.len(), limits.max_config_bytes);
        return Err(Error::invalid("config_json", message));
    }
    let value: serde_json::Value =
        serde_json::from_str(json).map_err(|error| Error::invalid("config_json", error.to_string()))?;
    if !value.is_object() {
        return Err(Error::invalid("config_json", "is not a JSON object"));
    }
    // NUL can hide behind an escape, and Postgres refuses it inside JSON as well.
    if json.contains("\\u0000") {
        return Err(Error::invalid("config_json", "contains a NUL character"));
    }
    Ok(value)
}

fn resumes(resumes: &v1::Resumes) -> Result<ResumeFrom, Error> {
    if resumes.step >= STEP_LIMIT {
        return Err(Error::invalid("attempt.resumes.step", format!("{} is not below 2^53", resumes.step)));
    }
    if resumes.attempt_id.is_empty() {
        return Ok(ResumeFrom::Newest { step: resumes.step });
    }
    let attempt_id = attempt_id("attempt.resumes.attempt_id", &resumes.attempt_id)?;
    Ok(ResumeFrom::Attempt(Resumes { attempt_id, step: resumes.step }))
}

fn stream_spec(spec: v1::StreamSpec, limits: &Limits, instruments: &Instruments) -> Result<StreamSpec, Error> {
    let encoding = match spec.encoding() {
        v1::Encoding::F32 => Encoding::F32,
        v1::Encoding::F16 => Encoding::F16,
        v1::Encoding::Unspecified => {
            return Err(Error::invalid("spec.encoding", "must be ENCODING_F32 or ENCODING_F16"));
        }
    };
    let sketch_dim = spec.sketch_dim as usize;
    if !sketch_dim.is_power_of_two() || !(sketch::MIN_DIM..=sketch::MAX_DIM).contains(&sketch_dim) {
        let message = format!("{sketch_dim} is not a power of two between {} and {}", sketch::MIN_DIM, sketch::MAX_DIM);
        return Err(Error::invalid("spec.sketch_dim", message));
    }
    if spec.update_interval == 0 {
        return Err(Error::invalid("spec.update_interval", "must be at least 1"));
    }
    let mut kinds = Vec::with_capacity(spec.kinds.len());
    for kind in spec.kinds() {
        let kind = match kind {
            v1::Kind::Update => Kind::Update,
            v1::Kind::Gradient => Kind::Gradient,
            v1::Kind::Unspecified => {
                return Err(Error::invalid("spec.kinds", "must be KIND_UPDATE or KIND_GRADIENT"));
            }
        };
        if kinds.contains(&kind) {
            return Err(Error::invalid("spec.kinds", format!("{} is declared twice", kind.as_str())));
        }
        kinds.push(kind);
    }
    if kinds.is_empty() {
        return Err(Error::invalid("spec.kinds", "must name at least one kind"));
    }
    let window_lengths: Vec<usize> = spec.window_lengths.iter().map(|&length| length as usize).collect();
    // A window of one column checks the lengths by the rules of the window itself.
    Window::new(1, &window_lengths).map_err(|error| Error::invalid("spec.window_lengths", error.to_string()))?;
    let groups = groups(spec.groups, limits)?;
    let spec = StreamSpec {
        sketch_dim,
        sketch_seed: spec.sketch_seed,
        encoding,
        window_lengths,
        groups,
        kinds,
        update_interval: spec.update_interval,
        layers: layers(spec.layers, limits, instruments)?,
    };
    window_memory(&spec, limits)?;
    Ok(spec)
}

fn groups(wire: Vec<v1::Group>, limits: &Limits) -> Result<Vec<GroupSpec>, Error> {
    if wire.is_empty() || wire.len() > MAX_GROUPS {
        let message = format!("{} groups; between 1 and {MAX_GROUPS} are possible", wire.len());
        return Err(Error::invalid("spec.groups", message));
    }
    let mut names = HashSet::new();
    let mut groups = Vec::with_capacity(wire.len());
    for (index, group) in wire.into_iter().enumerate() {
        let field = |name: &str| format!("spec.groups[{index}].{name}");
        check(field("name"), text::name(&group.name, limits.max_name_bytes))?;
        if !names.insert(group.name.clone()) {
            return Err(Error::invalid(field("name"), format!("{:?} is declared twice", group.name)));
        }
        let mut tensor_names = HashSet::new();
        let mut parameter_count = 0_u64;
        for (index, tensor) in group.tensors.iter().enumerate() {
            let field = |name: &str| field(&format!("tensors[{index}].{name}"));
            check(field("name"), text::name(&tensor.name, limits.max_name_bytes))?;
            if !tensor_names.insert(&tensor.name) {
                return Err(Error::invalid(field("name"), format!("{:?} is declared twice", tensor.name)));
            }
            parameter_count = match parameter_count.checked_add(tensor.elements) {
                Some(sum) if sum < STEP_LIMIT => sum,
                _ => return Err(Error::invalid(field("elements"), "the group has 2^53 parameters or more")),
            };
        }
        if parameter_count == 0 {
            return Err(Error::invalid(field("tensors"), "the group has no parameters"));
        }
        let tensors =
            group.tensors.into_iter().map(|tensor| TensorSpec { name: tensor.name, elements: tensor.elements });
        groups.push(GroupSpec { name: group.name, tensors: tensors.collect() });
    }
    Ok(groups)
}

/// Windows, and what follows them, are the one memory a client decides on: refused with the product named.
fn window_memory(spec: &StreamSpec, limits: &Limits) -> Result<(), Error> {
    let (groups, kinds, dim) = (spec.groups.len() as u64, spec.kinds.len() as u64, spec.sketch_dim as u64);
    let rows = spec.window_lengths.iter().max().map_or(0, |&longest| longest as u64 + 1);
    let windows = spec.groups.len() * spec.kinds.len() * spec.window_lengths.len();
    if windows > limits.max_windows {
        let message = format!(
            "{groups} groups x {kinds} kinds x {} window lengths = {windows} windows; the limit is {}",
            spec.window_lengths.len(),
            limits.max_windows
        );
        return Err(Error { field: Some("spec".into()), ..Error::new(ErrorCode::TooLarge, message) });
    }
    // At most 4,096 x 2 x 65 x 65,536 x 4: far from overflow.
    let bytes = groups * kinds * rows * dim * 4;
    if bytes <= limits.max_window_bytes {
        return Ok(());
    }
    Err(Error {
        field: Some("spec".into()),
        ..Error::new(
            ErrorCode::TooLarge,
            format!(
                "windows would take {groups} groups x {kinds} kinds x {rows} rows x {dim} x 4 bytes = {bytes} bytes; \
                 the limit is {}",
                limits.max_window_bytes
            ),
        )
    })
}

/// A step waits until every shard has brought its frame. Where those could not wait all at once the step could never be
/// settled: refused with the product named.
fn step_memory(spec: &StreamSpec, shard_count: u32, config: &Config) -> Result<(), Error> {
    let value_bytes = match spec.encoding {
        Encoding::F32 => 4,
        Encoding::F16 => 2,
    };
    // As it came, and as it is kept.
    let copies = if config.keep_sketches > 0 { 2 } else { 1 };
    let payloads = spec.groups.len() * spec.kinds.len();
    let frame_bytes =
        payloads * (copies * spec.sketch_dim * value_bytes + spec.window_lengths.len() * ROW_BYTES) + ROW_BYTES;
    let (bytes, limit) = (frame_bytes * shard_count as usize, config.memory_limit_bytes / 2);
    // One shard waits for no other.
    if shard_count == 1 || bytes <= limit {
        return Ok(());
    }
    let message = format!(
        "a step would take {shard_count} shards x {frame_bytes} bytes a frame = {bytes} bytes while it waits for all of \
         them; the limit is {limit}, half of memory_limit_bytes"
    );
    Err(Error { field: Some("shard_count".into()), ..Error::new(ErrorCode::TooLarge, message) })
}
