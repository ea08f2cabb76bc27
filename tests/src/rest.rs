//! REST calls of the tests.

use bytes::Bytes;
use http::{Method, Request, StatusCode, response};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::timeout;

use crate::PATIENCE;

/// Calls one server.
#[derive(Clone)]
pub struct Rest {
    client: Client<HttpConnector, Full<Bytes>>,
    server: String,
    token: Option<String>,
}

impl Rest {
    /// Calls the server at a URL.
    pub fn new(server: &str) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), server: server.to_owned(), token: None }
    }

    /// The same server, called with a token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    fn request(&self) -> http::request::Builder {
        let request = Request::builder();
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// A call with a body; answers status and body.
    pub async fn call(&self, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let (head, body) = self.exchange(method, path, body).await;
        (head.status, body)
    }

    /// A call with a body; answers everything.
    pub async fn exchange(&self, method: Method, path: &str, body: &str) -> (response::Parts, String) {
        self.exchange_as("application/json", method, path, body).await
    }

    /// A call with a body of some type; answers everything.
    pub async fn exchange_as(
        &self,
        content_type: &str,
        method: Method,
        path: &str,
        body: &str,
    ) -> (response::Parts, String) {
        let request = self
            .request()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header("content-type", content_type)
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("a valid request");
        let response = timeout(PATIENCE, self.client.request(request)).await.expect("an answer").expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        (head, String::from_utf8(body.to_vec()).expect("text"))
    }

    /// A call that has to be refused with a whole problem document (RFC 9457), which is answered.
    pub async fn problem(&self, method: Method, path: &str, body: &str) -> Value {
        let what = format!("{method} {path} {body}");
        let (head, body) = self.exchange(method, path, body).await;
        assert!(head.status.is_client_error() || head.status.is_server_error(), "{what} was not refused: {body}");
        let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok());
        assert_eq!(content_type, Some("application/problem+json"), "{what}: {body}");
        let problem: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{what}: {error}: {body}"));
        assert_eq!(problem["status"], head.status.as_u16(), "{what}: {problem}");
        for member in ["type", "title", "detail", "code"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{what}: {member}: {problem}");
        }
        problem
    }

    /// GET that has to succeed; answers the JSON.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "GET {path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// GET that has to be refused; answers status and problem document.
    pub async fn refused(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.call(Method::GET, path, "").await;
        assert!(!status.is_success(), "GET {path} was not refused: {body}");
        (status.as_u16(), serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {path}: {error}: {body}")))
    }

    /// All items of a list, page by page. `path` carries a query.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut page = self.get(&format!("{path}{cursor}")).await;
            items.append(page["items"].as_array_mut().expect("items"));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// Waits until a GET's JSON satisfies a condition.
    pub async fn until(&self, path: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let looking = async {
            loop {
                let value = self.get(path).await;
                if condition(&value) {
                    return value;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        match timeout(PATIENCE, looking).await {
            Ok(value) => value,
            Err(_) => panic!("GET {path} never showed {what}; last: {}", self.get(path).await),
        }
    }

    /// Opens a stream of server-sent events.
    pub async fn events(&self, path: &str, last_event_id: Option<&str>) -> SseStream {
        let mut request = self.request().uri(format!("{}{path}", self.server)).header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let request = request.body(Full::new(Bytes::new())).expect("a valid request");
        let response = self.client.request(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "GET {path}");
        SseStream { body: response.into_body(), text: String::new() }
    }
}

/// One event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct SseEvent {
    /// Its id, where it has one.
    pub id: Option<String>,
    /// Its name.
    pub event: String,
    /// Its JSON.
    pub data: Value,
}

/// A stream of server-sent events.
pub struct SseStream {
    body: hyper::body::Incoming,
    text: String,
}

impl SseStream {
    /// The next event; `None` when the server has ended the stream.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                if let Some(event) = parse(&block) {
                    return Some(event);
                }
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("an event, or the end")?;
            let data = frame.ok()?.into_data().unwrap_or_default();
            self.text.push_str(std::str::from_utf8(&data).expect("text"));
        }
    }
}

/// An event block; comments alone are none.
fn parse(block: &str) -> Option<SseEvent> {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let values: Vec<&str> = lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect();
        (!values.is_empty()).then(|| values.join("\n"))
    };
    let data = field("data");
    let event = field("event").or_else(|| data.as_ref().map(|_| "message".to_owned()))?;
    let data = data.map_or(Value::Null, |data| serde_json::from_str(&data).unwrap_or(Value::String(data)));
    Some(SseEvent { id: field("id"), event, data })
}
