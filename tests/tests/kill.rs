//! Promise 1 under load: SIGKILL of server or database at any instant loses no acknowledged frame, stores none twice, and
//! changes no reading. `cargo xtask torture` is the same, longer.

use std::time::Duration;

use gradwatch_tests::{
    Backend, on_both_backends,
    torture::{Database, Options, torture},
};

on_both_backends!(kills_under_load_lose_nothing_that_was_acknowledged);

async fn kills_under_load_lose_nothing_that_was_acknowledged(backend: Backend) {
    let (database, database_kills) = match backend {
        Backend::Sqlite => (None, 0),
        Backend::Postgres => (Some(Database::start()), 3),
    };
    let (kills, pause) = (6, Duration::from_millis(800));
    let report = torture(Options { kills, database_kills, pause, seed: 7, shards: 2, database }, |_| {}).await;
    assert_eq!((report.kills, report.database_kills), (kills, database_kills));
    assert!(report.frames_acknowledged > 0, "{report:?}");
}
