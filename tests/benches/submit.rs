//! What `submit` costs a training loop (d = 4096, 1,000,000 parameters) when the server lives, is dead, is stopped, or
//! answers garbage: the four take turns in one run, so that the machine's moods hit all alike. Prints a table and one
//! line of JSON.
//!
//! `cargo bench -p gradwatch-tests --bench submit`, behind `cargo build --release -p gradwatch-server --bin gradwatch`

use std::time::{Duration, Instant};

use gradwatch_client::{Frame, Run};
use gradwatch_tests::{GarbageServer, PATIENCE, ReservedPort, ServerProcess, any_port};

const DIM: usize = 4_096;
const PARAMETERS: usize = 1_000_000;
/// About 120 frames: the runs without a server go through a full buffer most of the time.
const BUFFER_BYTES: usize = 1 << 20;
const WARM: usize = 200;
const ROUNDS: usize = 1_000;
/// What a training step takes besides, so that the uploaders have their time as well.
const REST_OF_STEP: Duration = Duration::from_millis(2);
/// What a server's absence may cost.
const TARGET_RATIO: f64 = 1.5;

struct Measured {
    server: &'static str,
    run: Run,
    micros: Vec<f64>,
}

impl Measured {
    fn open(server: &'static str, url: &str) -> Self {
        let run = Run::builder(url)
            .project("benches")
            .name(server)
            .group("all", [("w", PARAMETERS)])
            .sketch_dim(DIM)
            .buffer_bytes(BUFFER_BYTES)
            .open()
            .expect("valid arguments");
        Self { server, run, micros: Vec::with_capacity(ROUNDS) }
    }

    fn submit(&mut self, step: usize, parameters: &[f32]) {
        let start = Instant::now();
        let frame = Frame::new().learning_rate(1e-3).scalar("loss", 0.5).parameters("all", [("w", parameters)]);
        self.run.submit(step as u64, frame).expect("a valid frame");
        let micros = start.elapsed().as_secs_f64() * 1e6;
        if step >= WARM {
            self.micros.push(micros);
        }
    }

    /// Waits until the server has everything.
    fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.run.status().settled < self.run.status().submitted {
            assert!(Instant::now() < deadline, "{}: {:?}", self.server, self.run.status());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Parameters that move: a few states that are gone through again and again.
fn states() -> Vec<Vec<f32>> {
    let mut state = 7_u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..5).map(|_| (0..PARAMETERS).map(|_| noise()).collect()).collect()
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let data_dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let live = ServerProcess::start(data_dirs[0].path(), any_port());
    let stopped = ServerProcess::start(data_dirs[1].path(), any_port());
    let (dead, garbage) = (ReservedPort::new(), ReservedPort::new());
    let answering = runtime.block_on(GarbageServer::start(garbage.address()));
    let mut runs = [
        Measured::open("live", &live.url()),
        Measured::open("dead", &dead.url()),
        Measured::open("stopped", &stopped.url()),
        Measured::open("garbage", &garbage.url()),
    ];
    let states = states();
    for step in 0..WARM + ROUNDS {
        if step == 20 {
            // It is stopped in the middle of a conversation.
            runs[2].settle();
            stopped.signal("STOP");
        }
        for turn in 0..runs.len() {
            runs[(step + turn) % 4].submit(step, &states[step % states.len()]);
        }
        std::thread::sleep(REST_OF_STEP);
    }
    runs[0].settle();

    println!(
        "{:>9} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8}   target: ratio <= {TARGET_RATIO}",
        "server", "median_us", "p10_us", "p99_us", "ratio", "settled", "dropped"
    );
    let mut live_us = f64::NAN;
    let mut records = Vec::new();
    for measured in &mut runs {
        measured.micros.sort_by(f64::total_cmp);
        let share = |share| percentile(&measured.micros, share);
        let (median, low, high) = (share(0.5), share(0.1), share(0.99));
        if measured.server == "live" {
            live_us = median;
        }
        let (status, ratio) = (measured.run.status(), median / live_us);
        println!(
            "{:>9} {median:>10.1} {low:>10.1} {high:>10.1} {ratio:>8.2} {:>8} {:>8}",
            measured.server, status.settled, status.dropped
        );
        records.push(serde_json::json!({
            "bench": "client.submit", "server": measured.server, "d": DIM, "parameters": PARAMETERS,
            "median_us": median, "p10_us": low, "p99_us": high, "ratio_to_live": ratio,
            "settled": status.settled, "dropped": status.dropped,
        }));
    }
    println!("{}", serde_json::Value::from(records));
    stopped.signal("CONT");
    runtime.block_on(answering.stop());
}
