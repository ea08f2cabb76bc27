//! `/docs`: one page without any resource from elsewhere, made from the OpenAPI document, the error vocabulary and the
//! catalogue of metrics.

use std::{fmt::Write, sync::LazyLock};

use axum::{http::header, response::IntoResponse};
use gradwatch_spectral::{
    catalogue::{DETECTORS, EDGE_METRICS, Tag},
    layers::LayerInstrument,
};
use serde_json::Value;

use super::{openapi, params::Query, text::html};
use crate::error::ErrorCode;

const TEMPLATE: &str = include_str!("docs.html");

static PAGE: LazyLock<String> = LazyLock::new(|| {
    TEMPLATE
        .replace("<!-- endpoints -->", &endpoints())
        .replace("<!-- errors -->", &errors())
        .replace("<!-- metrics -->", &metrics())
        .replace("<!-- layer metrics -->", &layer_metrics())
        .replace("<!-- detectors -->", &detectors())
});

pub(crate) async fn serve(Query(()): Query<()>) -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy)], PAGE.as_str())
}

/// One block a call.
fn endpoints() -> String {
    // A document of texts always has a JSON form.
    let document = serde_json::to_value(openapi::document()).unwrap_or_default();
    let mut page = String::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, call) in item.as_object().into_iter().flatten() {
            endpoint(&mut page, method, path, call);
        }
    }
    page
}

// Writing to a String cannot fail, here and below.
fn endpoint(page: &mut String, method: &str, path: &str, call: &Value) {
    let text = |value: &Value| html(value.as_str().unwrap_or_default());
    let description = match text(&call["description"]) {
        description if description.is_empty() => text(&call["summary"]),
        description => format!("{} {description}", text(&call["summary"])),
    };
    let _ = write!(
        page,
        "<details><summary><code>{} {}</code></summary><p>{description}</p>",
        method.to_uppercase(),
        html(path)
    );
    if let Some(parameters) = call["parameters"].as_array() {
        page.push_str("<table><tr><th>parameter</th><th>in</th><th>default</th><th>meaning</th></tr>");
        for parameter in parameters {
            let default = match &parameter["schema"]["default"] {
                Value::Null if parameter["required"] == true => "required".to_owned(),
                Value::Null => String::new(),
                Value::String(text) => html(text),
                other => html(&other.to_string()),
            };
            let _ = write!(
                page,
                "<tr><td><code>{}</code></td><td>{}</td><td>{default}</td><td>{}</td></tr>",
                text(&parameter["name"]),
                text(&parameter["in"]),
                text(&parameter["description"])
            );
        }
        page.push_str("</table>");
    }
    page.push_str("<p>Answers: ");
    let answers = call["responses"].as_object().into_iter().flatten().map(|(status, answer)| {
        let types: Vec<String> =
            answer["content"].as_object().into_iter().flatten().map(|(name, _)| html(name)).collect();
        match status.starts_with('2') {
            true => format!("<b>{status}</b> {}", types.join(", ")),
            false => format!("{status} {}", text(&answer["description"])),
        }
    });
    page.push_str(&answers.collect::<Vec<_>>().join("; "));
    page.push_str("</p></details>\n");
}

fn errors() -> String {
    let mut rows = String::new();
    for code in ErrorCode::ALL {
        let _ = writeln!(
            rows,
            "<tr id=\"problem-{label}\"><td><code>{label}</code></td><td>{status}</td><td>{grpc:?}</td><td>{retry}</td></tr>",
            label = code.label(),
            status = code.http(),
            grpc = code.grpc(),
            retry = if code.retryable() { "yes" } else { "no" },
        );
    }
    rows
}

fn metrics() -> String {
    let rows = EDGE_METRICS.iter().map(|metric| metric_row(metric.name, metric.unit, metric.definition, metric.tag));
    rows.collect()
}

fn layer_metrics() -> String {
    let fields = LayerInstrument::ALL.iter().flat_map(|&instrument| {
        instrument.fields().iter().map(move |field| (format!("{instrument}.{}", field.name), field))
    });
    fields.map(|(name, field)| metric_row(&name, field.unit, field.definition, field.tag)).collect()
}

fn metric_row(name: &str, unit: &str, definition: &str, tag: Tag) -> String {
    format!(
        "<tr id=\"{name}\"><td><code>{name}</code></td><td>{unit}</td><td>{definition}</td><td>[{tag}]</td></tr>\n",
        unit = html(unit),
        definition = html(definition),
        tag = html(tag.as_str()),
    )
}

fn detectors() -> String {
    let mut rows = String::new();
    for detector in DETECTORS {
        let _ =
            writeln!(rows, "<tr><td><code>{}</code></td><td>{}</td></tr>", html(detector.name), html(detector.rule));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_everything_and_nothing_from_elsewhere() {
        for code in ErrorCode::ALL {
            assert!(PAGE.contains(&format!("id=\"problem-{}\"", code.label())), "{}", code.label());
        }
        for metric in EDGE_METRICS {
            assert!(PAGE.contains(&format!("<code>{}</code>", metric.name)), "{}", metric.name);
        }
        for instrument in LayerInstrument::ALL {
            for field in instrument.fields() {
                let name = format!("{instrument}.{}", field.name);
                assert!(PAGE.contains(&format!("<tr id=\"{name}\"><td><code>{name}</code>")), "{name}");
                assert!(PAGE.contains(&html(field.definition)), "{name}");
            }
        }
        for detector in DETECTORS {
            assert!(PAGE.contains(detector.name), "{}", detector.name);
        }
        for path in openapi::document().paths.paths.keys() {
            assert!(PAGE.contains(&html(path)), "{path}");
        }
        for elsewhere in ["src=", "http://", "https://", "@import", "url(", "<script", "<!-- "] {
            assert!(!PAGE.contains(elsewhere), "{elsewhere}");
        }
    }
}
