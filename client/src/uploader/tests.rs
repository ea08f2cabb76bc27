//! A simulation without a network: the backlog against a server that keeps the protocol over a connection that breaks
//! at random, in a buffer far too small, with and without a spool, the disk of which breaks at random and outlives the
//! process.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use gradwatch_proto::v1::{self, client_message::Message};
use prost::Message as _;
use uuid::Uuid;

use super::backlog::Backlog;
use crate::buffer::Entry;
use crate::random::SplitMix64;
use crate::shared::Shared;
use crate::spool::{self, RunSpool, Spool};

const CAPACITY_BYTES: usize = 16 << 10;
const MAX_MESSAGE_BYTES: usize = 1000;

enum Answer {
    Ack(v1::Ack),
    Resend(v1::Resend),
    Rejected(u64),
}

/// What was settled: (from, to, is a frame).
type Settled = (u64, u64, bool);

#[derive(Default)]
struct Server {
    settled: Vec<Settled>,
    pending: VecDeque<Settled>,
}

impl Server {
    fn committed_seq(&self) -> u64 {
        self.settled.last().map_or(0, |&(_, to, _)| to)
    }

    /// Takes an item in; a hole is answered.
    fn receive(&mut self, (from, to, is_frame): Settled) -> Option<Answer> {
        let next_seq = self.pending.back().map_or(self.committed_seq(), |&(_, to, _)| to) + 1;
        if from == next_seq {
            self.pending.push_back((from, to, is_frame));
        }
        (from > next_seq).then_some(Answer::Resend(v1::Resend { from_seq: next_seq }))
    }

    /// Every seventh frame is invalid.
    fn commit(&mut self, items: usize, keep: u64, answers: &mut VecDeque<Answer>) {
        for item in self.pending.drain(..items.min(self.pending.len())) {
            if item.2 && item.0 % 7 == 0 {
                answers.push_back(Answer::Rejected(item.0));
            }
            self.settled.push(item);
        }
        let committed_seq = self.committed_seq();
        let keep_from_seq = (committed_seq + 1).saturating_sub(keep);
        answers.push_back(Answer::Ack(v1::Ack { committed_seq, keep_from_seq }));
    }
}

struct Simulation {
    random: SplitMix64,
    shared: Arc<Shared>,
    backlog: Backlog,
    server: Server,
    wire: VecDeque<Settled>,
    answers: VecDeque<Answer>,
    submitted: u64,
    lost: u64,
    /// Frames that are longer than the server takes.
    too_long: u64,
}

impl Simulation {
    fn new(seed: u64, spool: Option<RunSpool>) -> Self {
        let shared = Arc::new(Shared::new());
        let mut backlog = Backlog::new(CAPACITY_BYTES, spool, true, shared.clone());
        backlog.begin(request(), None);
        let mut simulation = Self {
            random: SplitMix64(seed),
            shared,
            backlog,
            server: Server::default(),
            wire: VecDeque::new(),
            answers: VecDeque::new(),
            submitted: 0,
            lost: 0,
            too_long: 0,
        };
        simulation.connect();
        simulation
    }

    fn connect(&mut self) {
        self.wire.clear();
        self.answers.clear();
        self.server.pending.clear();
        let committed_seq = self.server.committed_seq();
        let resend_from_seq = (committed_seq + 1).saturating_sub(self.random.below(20));
        let opened = v1::Opened { committed_seq, resend_from_seq, ..v1::Opened::default() };
        self.backlog.front_mut().unwrap().on_opened(&opened).unwrap();
    }

    fn submit(&mut self) {
        self.submitted += 1;
        let seq = self.submitted;
        // Some are longer than the server takes.
        let is_too_long = self.random.below(20) == 0;
        self.too_long += u64::from(is_too_long);
        let name = "n".repeat(if is_too_long { MAX_MESSAGE_BYTES } else { self.random.below(900) as usize });
        let frame = v1::Frame { seq, step: 3 * seq, scalars: [(name, 1.0)].into(), ..v1::Frame::default() };
        let attached = v1::Frame { happened: vec![seq.to_string()], ..v1::Frame::default() };
        let (bytes, attached) = (frame.encode_to_vec().into(), attached.encode_to_vec().into());
        self.backlog.append(Entry::Frame { seq, step: frame.step, bytes, attached });
    }

    fn send(&mut self) {
        let front = self.backlog.front_mut().unwrap();
        front.refill();
        let could_send = front.can_send();
        match front.next_message(MAX_MESSAGE_BYTES) {
            Some(Message::Frames(batch)) => {
                assert!(batch.encoded_len() <= MAX_MESSAGE_BYTES);
                for frame in &batch.frames {
                    // What is sent again to be settled is whole; what is settled only refills windows.
                    let expected = (frame.seq > front.settled_seq()).then(|| frame.seq.to_string());
                    assert!(frame.happened.iter().eq(&expected), "{frame:?}");
                }
                self.wire.extend(batch.frames.iter().map(|frame| (frame.seq, frame.seq, true)));
            }
            Some(Message::Dropped(dropped)) => {
                // A server may ask for the rest of a stretch only.
                assert!(dropped.first_step <= 3 * dropped.from_seq);
                // Of what is not on disk any more only the steps around it are known.
                assert!((0..3).contains(&(dropped.last_step - 3 * dropped.to_seq)));
                self.wire.push_back((dropped.from_seq, dropped.to_seq, false));
            }
            None => assert!(!could_send),
            other => panic!("{other:?} is nothing to settle"),
        }
    }

    fn receive(&mut self) {
        let front = self.backlog.front_mut().unwrap();
        match self.answers.pop_front() {
            Some(Answer::Ack(ack)) => assert!(front.on_ack(&ack).is_ok()),
            Some(Answer::Resend(resend)) => front.on_resend(&resend).unwrap(),
            Some(Answer::Rejected(seq)) => assert!(front.on_rejected(seq).is_ok()),
            None => {}
        }
        self.backlog.publish();
    }

    fn act(&mut self, submits: bool) {
        match self.random.below(100) {
            0..40 if submits => self.submit(),
            0..65 => self.send(),
            65..82 => {
                if let Some(item) = self.wire.pop_front() {
                    if submits && self.random.below(50) == 0 {
                        self.lost += 1;
                    } else {
                        self.answers.extend(self.server.receive(item));
                    }
                }
            }
            82..90 => {
                let (items, keep) = (self.random.below(8) as usize, self.random.below(200));
                self.server.commit(items, keep, &mut self.answers);
            }
            90..99 => self.receive(),
            _ => {
                if self.random.below(10) == 0 {
                    self.connect();
                }
            }
        }
        let usage = self.backlog.front().unwrap().usage();
        assert!(usage.total_bytes() <= CAPACITY_BYTES, "{usage:?}");
        assert!(usage.in_flight_bytes <= CAPACITY_BYTES / 4, "{usage:?}");
        assert!(usage.kept_bytes <= CAPACITY_BYTES / 4, "{usage:?}");
    }
}

fn request() -> v1::OpenRunRequest {
    let (run_id, attempt_id) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let attempt = v1::Attempt { attempt_id, started_at_us: 1, ..v1::Attempt::default() };
    v1::OpenRunRequest { run_id, attempt: Some(attempt), ..v1::OpenRunRequest::default() }
}

impl Simulation {
    /// Delivers everything.
    fn finish(&mut self) {
        self.backlog.complete();
        let mut acts = 0;
        while !self.backlog.front().unwrap().is_delivered() {
            self.act(false);
            acts += 1;
            assert!(acts < 1_000_000, "it does not come to an end");
        }
    }

    /// Every sequence number was settled in order and once; gives the number of frames.
    fn check_settled(&self, last_seq: u64) -> u64 {
        let mut next_seq = 1;
        for &(from, to, _) in &self.server.settled {
            assert_eq!(from, next_seq, "in order, without holes, each once");
            next_seq = to + 1;
        }
        assert_eq!(next_seq, last_seq + 1);
        self.server.settled.iter().filter(|(_, _, is_frame)| *is_frame).count() as u64
    }

    fn check_fates(&self) {
        let status = self.shared.status();
        assert_eq!(self.submitted, status.settled + status.dropped + status.rejected);
        assert_eq!(self.check_settled(self.submitted), self.submitted - status.dropped);
    }

    /// The process dies, and another one finds what it left: so many frames.
    fn die(&mut self, dir: &Path) -> u64 {
        self.shared = Arc::new(Shared::new());
        self.backlog = Backlog::new(CAPACITY_BYTES, None, true, self.shared.clone());
        let [left] = &spool::scan(dir).unwrap()[..] else { panic!("one attempt is left") };
        assert!(!left.live && left.damage.is_empty(), "{left:?}");
        let delivery = spool::left_behind(&left.path, CAPACITY_BYTES, &self.shared).unwrap().unwrap();
        assert_eq!(self.shared.status().spooled, left.frames);
        self.backlog = delivery.backlog(&self.shared);
        self.connect();
        left.frames
    }
}

#[test]
fn a_spool_loses_nothing_that_the_disk_took() {
    for seed in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let spool = RunSpool::new(Spool::new(dir.path()).max_bytes(64 << 20), String::new());
        let mut simulation = Simulation::new(seed, Some(spool));
        for _ in 0..3000 {
            simulation.act(true);
            // A rejected frame is on disk until the mark passes it.
            let status = simulation.shared.status();
            let counted = status.spooled + status.settled + status.dropped;
            assert!(counted <= simulation.submitted, "{status:?}");
            assert!(counted + status.rejected >= simulation.submitted, "{status:?}");
        }
        let dies = seed % 3 > 0;
        if dies {
            // In the middle of a delivery as well.
            for _ in 0..seed % 3 {
                simulation.die(dir.path());
                for _ in 0..300 {
                    simulation.act(false);
                }
            }
        }
        simulation.finish();
        let frames = simulation.check_settled(simulation.submitted);
        assert_eq!(frames, simulation.submitted - simulation.too_long, "only what no server takes is lost");
        assert_eq!(simulation.shared.status().spooled, 0);
        simulation.backlog.front_mut().unwrap().remove();
        assert_eq!(simulation.shared.status().spooled_bytes, 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }
}

#[test]
fn a_spool_whose_disk_breaks_or_is_too_small_gives_every_frame_one_fate() {
    let mut dropped = 0;
    for seed in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let max_bytes = if seed % 2 == 0 { 64 << 20 } else { 2 * CAPACITY_BYTES as u64 };
        let spool = RunSpool::new(Spool::new(dir.path()).max_bytes(max_bytes), String::new());
        let broken = spool.broken.clone();
        broken.store(seed % 5 == 0, Relaxed);
        let mut simulation = Simulation::new(seed, Some(spool));
        for _ in 0..3000 {
            if simulation.random.below(100) == 0 {
                broken.fetch_xor(true, Relaxed);
            }
            simulation.act(true);
            let status = simulation.shared.status();
            assert!(status.spooled + status.settled + status.dropped <= simulation.submitted, "{status:?}");
            assert!(status.spooled_bytes <= max_bytes, "{status:?}");
        }
        if seed % 3 == 0 {
            broken.store(false, Relaxed);
            simulation.backlog.leave();
            let spooled = simulation.shared.status().spooled;
            // What cannot be sent is still there, until the mark has passed it.
            let found = simulation.die(dir.path());
            assert!((spooled..=spooled + simulation.too_long).contains(&found), "{found} of {spooled}");
            simulation.finish();
            // A new count began; what was dropped before is counted by the process before.
            simulation.check_settled(simulation.submitted);
        } else {
            simulation.finish();
            simulation.check_fates();
            assert_eq!(simulation.shared.status().spooled, 0);
        }
        dropped += simulation.shared.status().dropped;
    }
    assert!(dropped > 0, "the simulation is too tame");
}

#[test]
fn every_frame_has_one_fate_and_memory_is_bounded() {
    let (mut dropped, mut rejected, mut lost) = (0, 0, 0);
    for seed in 0..60 {
        let mut simulation = Simulation::new(seed, None);
        for _ in 0..3000 {
            simulation.act(true);
        }
        simulation.finish();
        simulation.check_fates();
        let status = simulation.shared.status();
        dropped += status.dropped;
        rejected += status.rejected;
        lost += simulation.lost;
    }
    assert!(dropped > 0 && rejected > 0 && lost > 0, "{dropped} {rejected} {lost}: the simulation is too tame");
}
