//! Terms as they are written in a condition.

use crate::language::TermSource;

/// Such as `edge.ratio{group="all"}`.
pub(super) fn text_of(source: &TermSource) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    match source {
        TermSource::Edge { metric, group, kind, window } => {
            let instrument = if *metric == "norm_z" { "update" } else { "edge" };
            let group = group.as_ref().map(|group| format!("group={}", quoted(group)));
            let kind = kind.map(|kind| format!("kind=\"{}\"", kind.as_str()));
            let window = window.map(|window| format!("window={window}"));
            let given: Vec<String> = [group, kind, window].into_iter().flatten().collect();
            if given.is_empty() {
                format!("{instrument}.{metric}")
            } else {
                format!("{instrument}.{metric}{{{}}}", given.join(", "))
            }
        }
        TermSource::Layer { instrument, field, layer: None } => format!("{instrument}.{field}"),
        TermSource::Layer { instrument, field, layer: Some(layer) } => {
            format!("{instrument}.{field}{{layer={}}}", quoted(layer))
        }
        TermSource::Scalar { name } => {
            let is_plain =
                |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let plain = name.split('.').all(is_plain);
            if plain { format!("scalar.{name}") } else { format!("scalar.{}", quoted(name)) }
        }
    }
}
