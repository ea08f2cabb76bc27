//! Who a receiver has to prove to be.

use std::sync::Arc;

use gradwatch_tests::{Backend, PATIENCE, Place, Rest, ServerProcess, any_port};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use crate::{
    mock::{Mock, Reply},
    world::{deliveries, firing, put_receivers, record},
};

/// An authority, and TLS that it certifies for 127.0.0.1.
fn certified() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a certificate and its key");
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_proves_to_be_whom_its_url_names() {
    let (authority, tls) = certified();
    let (_, other) = certified();
    let mock = Mock::start_with(Some(tls), |_, _| Reply::Status(200)).await;
    let impostor = Mock::start_with(Some(other), |_, _| Reply::Status(200)).await;
    let plain = Mock::taking().await;
    let port = mock.address.port();
    let receivers = [
        ("right", json!({"webhook": {"url": mock.url()}})),
        ("wrong name", json!({"webhook": {"url": format!("https://localhost:{port}")}})),
        ("impostor", json!({"webhook": {"url": impostor.url()}})),
        ("no tls", json!({"webhook": {"url": plain.url().replace("http:", "https:")}, "timeout_s": 2})),
    ];
    let place = Place::new(Backend::Sqlite);
    let store = gradwatch_store::open(None, place.data_dir()).await.expect("a store");
    put_receivers(&*store, &receivers).await;
    record(&*store, receivers.iter().map(|(name, _)| firing(name, "gap", 1)).collect()).await;
    store.close().await;
    drop(store);
    let trusted = place.data_dir().join("authority.pem");
    std::fs::write(&trusted, authority).expect("written");
    let variables = [
        ("GRADWATCH_ALERTS__ALLOW_ADDRESSES", r#"["127.0.0.0/8", "::1/128"]"#),
        ("SSL_CERT_FILE", trusted.to_str().expect("a path")),
    ];
    let mut server = ServerProcess::start_with(place.data_dir(), any_port(), &variables);
    let rest = Rest::new(&server.url());
    let attempted = async {
        loop {
            let metrics = rest.call(http::Method::GET, "/metrics", "").await.1;
            let counts = metrics.lines().filter(|line| line.starts_with("gradwatch_alert_delivery_attempts_total"));
            if counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum::<usize>()
                >= receivers.len()
            {
                return;
            }
            sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, attempted).await.expect("an attempt of each");
    server.kill();
    let store = gradwatch_store::open(None, place.data_dir()).await.expect("a store");
    let mut attempts = deliveries(&*store).await;
    attempts.retain(|delivery| delivery.attempt == 1);
    for delivery in &attempts {
        let expected = match delivery.receiver.as_str() {
            "right" => "delivered",
            // It waits for a request that never comes.
            "no tls" => "timeout",
            _ => "tls",
        };
        assert_eq!(delivery.outcome, expected, "{delivery:?}");
    }
    assert_eq!(attempts.len(), receivers.len(), "{attempts:#?}");
    assert_eq!((mock.received().len(), impostor.received().len(), plain.received().len()), (1, 0, 0));
    store.close().await;
}
