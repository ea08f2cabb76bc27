//! The load generator: many runs over a few connections, by hand rather than through the client crate, so that it costs
//! little of the machine that it shares with the server.

mod run;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use gradwatch_proto::v1::telemetry_client::TelemetryClient;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{task::JoinSet, time::sleep_until};
use tonic::transport::Endpoint;

use crate::{content::Content, usage};
pub(crate) use run::{RunId, open, open_request};

/// How fast frames are sent.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// As fast as they are acknowledged, with at most so many frames of each run on their way.
    InFlight(u64),
    /// So many a second over all runs, whatever is acknowledged. A frame's latency counts from when it was due, so that
    /// a server that stands still is not measured by fewer frames.
    FramesPerSecond(f64),
}

/// What to send.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) runs: usize,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    /// Most frames in a message.
    pub(crate) batch_frames: usize,
    /// Sent before anything is measured.
    pub(crate) warm_up_s: f64,
    pub(crate) seconds: f64,
    /// Each run ends behind this many frames, if not by time.
    pub(crate) max_frames_per_run: Option<u64>,
}

/// Processes whose CPU is measured, by name.
pub(crate) type Watched<'a> = [(&'a str, u32)];

/// What came of it.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Runs with their number of frames, all acknowledged.
    pub(crate) runs: Vec<(RunId, u64)>,
    /// Acknowledged in the measured time.
    pub(crate) frames_per_s: f64,
    pub(crate) latency_us: Histogram<u64>,
    /// CPU seconds a second, by name; `client` is this process.
    pub(crate) cores: Vec<(String, f64)>,
}

/// When things happen.
#[derive(Clone, Copy, Debug)]
struct Times {
    start: Instant,
    measured: Instant,
    end: Instant,
}

impl Load {
    /// Sends to a server until the time is over and everything is acknowledged.
    pub(crate) async fn send(&self, url: &str, content: &Arc<Content>, watched: &Watched<'_>) -> Result<Sent> {
        let mut peers = Vec::new();
        for _ in 0..self.connections {
            let channel = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?;
            peers.push(TelemetryClient::new(channel));
        }
        let mut runs = Vec::new();
        for number in 0..self.runs {
            let request = open_request(number, content.spec());
            peers[number % self.connections].open_run(request.clone()).await?;
            runs.push(request);
        }
        let start = Instant::now() + Duration::from_millis(200);
        let measured = start + Duration::from_secs_f64(self.warm_up_s);
        let times = Times { start, measured, end: measured + Duration::from_secs_f64(self.seconds) };
        let mut streams = JoinSet::new();
        for (number, request) in runs.into_iter().enumerate() {
            let peer = peers[number % self.connections].clone();
            streams.spawn(run::send(peer, request, number, self.clone(), Arc::clone(content), times));
        }
        sleep_until(times.measured.into()).await;
        let before = cpu(watched)?;
        let end = tokio::time::sleep_until(times.end.into());
        tokio::pin!(end);
        let mut finished = Vec::new();
        while !streams.is_empty() {
            tokio::select! {
                () = &mut end => break,
                // One that ends early has failed, or has sent all it was to send.
                Some(ended) = streams.join_next() => finished.push(ended??),
            }
        }
        let elapsed_s = times.measured.elapsed().as_secs_f64().min(self.seconds);
        let after = cpu(watched)?;
        while let Some(ended) = streams.join_next().await {
            finished.push(ended??);
        }
        let mut latency_us = Histogram::new(3)?;
        let mut acknowledged = 0;
        let mut runs = Vec::new();
        for run in finished {
            latency_us.add(&run.latency_us)?;
            acknowledged += run.acknowledged;
            runs.push((run.run_id, run.frames));
        }
        runs.sort_by_key(|(run, _)| run.number);
        let cores =
            before.into_iter().zip(after).map(|((name, before), (_, after))| (name, (after - before) / elapsed_s));
        Ok(Sent { runs, frames_per_s: acknowledged as f64 / elapsed_s, latency_us, cores: cores.collect() })
    }
}

fn cpu(watched: &Watched<'_>) -> Result<Vec<(String, f64)>> {
    let mut times = vec![("client".to_owned(), usage::own_cpu_seconds()?)];
    for &(name, pid) in watched {
        times.push((name.to_owned(), usage::cpu_seconds(pid).with_context(|| name.to_owned())?));
    }
    Ok(times)
}
