//! A server that can crash, and the store under it, in which a test looks for what became of snapshots.

use std::{sync::Arc, time::Duration};

use gradwatch_proto::v1::{self, OpenRunRequest, server_message::Message};
use gradwatch_server::config::Config;
use gradwatch_spectral::layers::LayerReading;
use gradwatch_store::{LayerReadingAt, LayerReadingQuery, RunId, Store, StoreError, lineage::SegmentRange};
use gradwatch_tests::{Backend, CrashingServer, FaultyStore, PATIENCE, Peer, PeerStream, Place, Rest, frame};
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::made::{bits, key};

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    /// The same store.
    pub(crate) faults: Arc<FaultyStore>,
    pub(crate) server: CrashingServer,
    // Dropped behind the server.
    place: Place,
}

impl World {
    pub(crate) async fn new(backend: Backend, change: impl FnOnce(&mut Config)) -> Self {
        let place = Place::new(backend);
        let inner = gradwatch_store::open(place.database_url(), place.data_dir()).await.expect("a store");
        // Outlives the servers.
        let faults = Arc::new(FaultyStore::new(inner));
        let store: Arc<dyn Store> = Arc::clone(&faults) as _;
        let server = CrashingServer::start(Arc::clone(&store), place.data_dir(), change).await;
        Self { store, faults, server, place }
    }

    /// Another server, with a store of its own.
    pub(crate) async fn like(&self) -> Self {
        let backend = if self.place.database_url().is_some() { Backend::Postgres } else { Backend::Sqlite };
        Self::new(backend, |_| {}).await
    }

    pub(crate) fn rest(&self) -> Rest {
        Rest::new(&self.server.url())
    }

    pub(crate) async fn peer(&self) -> Peer {
        Peer::connect(&self.server.url()).await
    }

    pub(crate) async fn open(&self, request: &OpenRunRequest) -> PeerStream {
        self.peer().await.open(request).await.expect("opened").0
    }

    /// A stream of an attempt that was opened before, once the server has found its feet.
    pub(crate) async fn open_again(&self, request: &OpenRunRequest) -> (PeerStream, v1::Opened) {
        let opening = async {
            loop {
                match self.peer().await.open_stream(request).await {
                    Ok(opened) => return opened,
                    Err(status) if status.code() == Code::Unavailable => sleep(Duration::from_millis(20)).await,
                    Err(status) => panic!("{status:?}"),
                }
            }
        };
        timeout(PATIENCE, opening).await.expect("a server that answers")
    }

    /// The readings of a layer in a segment, once there are as many.
    pub(crate) async fn readings(&self, run: &str, segment: u32, layer: usize, count: usize) -> Vec<LayerReadingAt> {
        let query = LayerReadingQuery {
            run_id: run_id(run),
            layer: key(layer),
            ranges: vec![SegmentRange { segment, from_step: 0, to_step: (1 << 53) - 1 }],
            limit: 10_000,
        };
        let looking = async {
            loop {
                // A crash cuts connections to the database.
                match self.store.layer_readings(&query).await {
                    Ok(page) if page.items.len() >= count => return page.items,
                    Ok(_) | Err(StoreError::Unavailable(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let items = timeout(PATIENCE, looking).await.expect("every snapshot gets its reading");
        assert_eq!(items.len(), count, "more readings than snapshots");
        items
    }

    /// Waits for the readings of a layer and compares all their bits.
    pub(crate) async fn assert_read(&self, run: &str, segment: u32, layer: usize, expected: &[(u64, LayerReading)]) {
        let stored = self.readings(run, segment, layer, expected.len()).await;
        for (stored, (step, reading)) in stored.iter().zip(expected) {
            assert_eq!((stored.row.step, bits(&stored.row.reading)), (*step, bits(reading)));
            assert_eq!(stored.wall_time_us, wall_time_us(*step));
        }
    }

    /// Snapshots that still wait.
    pub(crate) async fn pending(&self, run: &str) -> usize {
        let looking = async {
            loop {
                match self.store.pending_snapshots(run_id(run)).await {
                    Ok(pending) => return pending.len(),
                    Err(StoreError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        timeout(PATIENCE, looking).await.expect("a store that answers")
    }

    pub(crate) async fn skipped(&self, run: &str) -> u64 {
        self.store.run(run_id(run)).await.expect("the run").counters.skipped
    }
}

pub(crate) fn run_id(run: &str) -> RunId {
    run.parse().expect("a UUID")
}

pub(crate) fn wall_time_us(step: u64) -> i64 {
    frame(step, step).wall_time_us
}

/// A frame with snapshots.
pub(crate) fn with_snapshots(seq: u64, snapshots: Vec<v1::Snapshot>) -> v1::Frame {
    v1::Frame { snapshots, ..frame(seq, seq) }
}

/// Waits for the rejection of a frame and the acknowledgement that passes it, in any order.
pub(crate) async fn rejection(stream: &mut PeerStream, seq: u64) -> v1::Rejected {
    let (mut rejected, mut acknowledged) = (None, false);
    loop {
        match (&rejected, acknowledged) {
            (Some(rejected), true) => return v1::Rejected::clone(rejected),
            (None, true) => panic!("frame {seq} was taken"),
            _ => {}
        }
        match stream.next().await.expect("an open stream").expect("an open stream") {
            Message::Ack(ack) => acknowledged = ack.committed_seq >= seq,
            Message::Rejected(message) => rejected = Some(message),
            other => panic!("{other:?}"),
        }
    }
}
