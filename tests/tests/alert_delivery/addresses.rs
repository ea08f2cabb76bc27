//! Where nothing is sent.

use gradwatch_store::MessageState;
use gradwatch_tests::{Backend, on_both_backends};
use serde_json::json;

use crate::{
    mock::Mock,
    world::{World, firing},
};

on_both_backends!(what_is_not_in_the_public_internet_is_not_reached_unless_it_is_named);

/// The settings as they come allow none of these. Names are looked up, and what counts is what they mean.
async fn what_is_not_in_the_public_internet_is_not_reached_unless_it_is_named(backend: Backend) {
    let mock = Mock::taking().await;
    let port = mock.address.port();
    let hosts = [
        ("address", "127.0.0.1"),
        ("other loopback", "127.8.9.10"),
        ("name", "localhost"),
        ("short form", "127.1"),
        ("number", "2130706433"),
        ("hexadecimal", "0x7f000001"),
        ("unspecified", "0.0.0.0"),
        ("mapped", "[::ffff:127.0.0.1]"),
        ("mapped in hexadecimal", "[::ffff:7f00:1]"),
        ("six", "[::1]"),
        ("translated", "[64:ff9b::127.0.0.1]"),
        ("metadata", "169.254.169.254"),
        ("private", "10.0.0.1"),
        ("unique local", "[fd00::1]"),
    ];
    let receivers = hosts.map(|(name, host)| (name, json!({"webhook": {"url": format!("http://{host}:{port}/")}})));
    let world = World::start_with(backend, &receivers, |_| {}).await;
    world.record(hosts.iter().map(|(name, _)| firing(name, "gap", 1)).collect()).await;
    world.until("an attempt of each", |deliveries, _| deliveries.len() >= hosts.len()).await;
    for delivery in world.deliveries().await {
        // A resolver may know fewer ways of writing an address.
        let may_be_unknown = ["short form", "number", "hexadecimal"].contains(&delivery.receiver.as_str());
        let is_refused = delivery.outcome == "refused_address" || may_be_unknown && delivery.outcome == "resolve";
        assert!(is_refused, "{delivery:?}");
    }
    assert!(world.messages().await.iter().all(|message| message.state == MessageState::Waiting));
    assert_eq!(mock.connections(), 0);
    world.stop().await;

    // The same addresses are reached when they are named, and others are not.
    let world = World::start(backend, &receivers).await;
    world.record(hosts.iter().map(|(name, _)| firing(name, "gap", 1)).collect()).await;
    world.until("an attempt of each", |deliveries, _| deliveries.len() >= hosts.len()).await;
    for delivery in world.deliveries().await {
        let is_refused = delivery.outcome == "refused_address";
        match delivery.receiver.as_str() {
            "address" | "name" | "mapped" | "mapped in hexadecimal" => {
                assert_eq!(delivery.outcome, "delivered", "{delivery:?}");
            }
            "unspecified" | "metadata" | "private" | "unique local" => assert!(is_refused, "{delivery:?}"),
            _ => assert!(!is_refused, "{delivery:?}"),
        }
    }
    world.stop().await;
}
