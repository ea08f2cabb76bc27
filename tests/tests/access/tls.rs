//! TLS, with an authority of our own.

use std::path::PathBuf;

use gradwatch_rest::{RestClient, RestError};
use gradwatch_server::config::{Config, ConfigError};
use gradwatch_tests::{Job, JobOptions, PATIENCE, TestServer, any_port, random_walk};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::server::{BOOTSTRAP, start};

/// Files of a server that is certified for 127.0.0.1, and its authority as PEM.
struct Certified {
    dir: TempDir,
    authority: String,
}

impl Certified {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        std::fs::write(dir.path().join("tls.crt"), certificate.pem()).expect("written");
        std::fs::write(dir.path().join("tls.key"), key.serialize_pem()).expect("written");
        Self { dir, authority: authority.pem() }
    }

    fn cert(&self) -> PathBuf {
        self.dir.path().join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("tls.key")
    }

    async fn serve(&self) -> (TestServer, String) {
        let server = start(|config| {
            config.tls_cert = Some(self.cert());
            config.tls_key = Some(self.key());
        })
        .await;
        let url = format!("https://{}", server.address());
        (server, url)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_and_grpc_work_over_tls() {
    let certified = Certified::new();
    let (server, url) = certified.serve().await;
    let mut job = Job::open_with(&url, &JobOptions::default(), |builder| {
        builder.token(BOOTSTRAP).ca_certificate(&certified.authority)
    });
    for (step, parameters) in random_walk(1, 20, 5_000).iter().enumerate() {
        job.submit(step as u64, parameters);
    }
    let run_id = job.run_id();
    job.close().await;
    let rest = RestClient::new(&url, Some(BOOTSTRAP), Some(&certified.authority)).expect("valid");
    let run: Value = rest.get(&format!("/api/v1/runs/{run_id}")).await.expect("an answer");
    assert_eq!((run["state"].as_str(), run["last_step"].as_u64()), (Some("finished"), Some(20)));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_is_not_believed() {
    let (certified, other) = (Certified::new(), Certified::new());
    let (server, url) = certified.serve().await;
    for authority in [None, Some(other.authority.as_str())] {
        let rest = RestClient::new(&url, Some(BOOTSTRAP), authority).expect("valid");
        let refused = rest.get::<Value>("/healthz").await.expect_err("not believed");
        assert!(matches!(&refused, RestError::Unreachable { cause, .. } if cause.contains("ertificate")), "{refused}");
    }
    let mut job = Job::open_with(&url, &JobOptions::default(), |builder| {
        let impatient = builder.token(BOOTSTRAP).close_timeout(std::time::Duration::from_secs(1));
        impatient.ca_certificate(&other.authority)
    });
    job.submit(0, &vec![0.0; 5_000]);
    let report = job.close_lossy().await;
    assert_eq!(report.settled, 0, "{report}");
    assert!(report.reason.as_deref().is_some_and(|reason| reason.contains("ertificate")), "{report}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_tls_are_left_and_delay_nobody() {
    let certified = Certified::new();
    let (server, url) = certified.serve().await;
    // Some say nothing at all, and keep their connections.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(server.address()).await.expect("connected"));
    }
    let http = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".as_slice();
    for hello in [http, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0x16, 3, 1, 0, 1, 0xff]] {
        let mut plain = TcpStream::connect(server.address()).await.expect("connected");
        plain.write_all(hello).await.expect("sent");
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("the end");
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    let rest = RestClient::new(&url, None, Some(&certified.authority)).expect("valid");
    rest.get::<Value>("/healthz").await.expect("served meanwhile");
    // They keep no shutdown waiting either.
    server.shutdown().await;
    drop(silent);
}

#[test]
fn files_that_are_no_certificate_are_named() {
    let (certified, other) = (Certified::new(), Certified::new());
    let empty = certified.dir.path().join("empty.pem");
    std::fs::write(&empty, "").expect("written");
    let nowhere = certified.dir.path().join("nowhere.pem");
    for (cert, key, field, part) in [
        (certified.cert(), None, "tls_key", "missing"),
        (nowhere.clone(), Some(certified.key()), "tls_cert", "nowhere.pem"),
        (certified.cert(), Some(nowhere), "tls_key", "nowhere.pem"),
        (empty.clone(), Some(certified.key()), "tls_cert", "empty.pem"),
        (certified.cert(), Some(empty), "tls_key", "empty.pem"),
        (certified.cert(), Some(other.key()), "tls_key", "does not fit"),
    ] {
        let mut config = Config::embedded(any_port(), certified.dir.path()).expect("valid");
        (config.tls_cert, config.tls_key) = (Some(cert), key);
        let Err(ConfigError::Invalid { field: found, message }) = config.validate() else { panic!("{field} {part}") };
        assert_eq!(found, field, "{message}");
        assert!(message.contains(part), "{message}");
    }
}
