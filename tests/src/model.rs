//! A job that does whatever a job may do: one operation after the other, on all its attempts, through writers that obey
//! the protocol.

use std::{iter::repeat_n, time::Duration};

use gradwatch_proto::v1;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::{
    made::{Flaw, Made, Slot},
    rest::Rest,
    settled::{Attempt, assert_settled},
    wire::{Peer, next_attempt, open_request, violated_field},
    writer::{Writer, tolerated},
};

/// What a job does next.
#[derive(Clone, Debug)]
pub enum Op {
    /// Sends new frames.
    Send {
        /// How many.
        frames: u8,
        /// So many in one message.
        batch: u8,
    },
    /// Sends new frames one by one, in another order.
    Shuffle {
        /// How many.
        frames: u8,
        /// Which order.
        turn: u8,
    },
    /// Makes frames that it does not send: a hole.
    Skip {
        /// How many.
        frames: u8,
    },
    /// Sends frames again.
    Repeat {
        /// How far back.
        back: u8,
        /// How many.
        frames: u8,
    },
    /// Sends a frame that is invalid.
    Flaw(Flaw),
    /// Sends a frame with NaN.
    NonFinite,
    /// Gives up new frames, and what was skipped at the end.
    GiveUp {
        /// How many.
        frames: u8,
    },
    /// Lets go of settled frames but some, whatever the server may need again.
    Forget {
        /// How many stay.
        kept: u8,
    },
    /// Says that it lives.
    Heartbeat,
    /// Reads and obeys what comes until nothing comes for so long.
    Listen {
        /// How long.
        ms: u8,
    },
    /// Waits until everything is acknowledged.
    Settle,
    /// Lets the connection go.
    Disconnect,
    /// Connects once more beside the connection that is there.
    TakeOver,
    /// Another process takes the same place.
    SecondWriter,
    /// Says that the job is over, and goes on.
    Finish,
    /// Goes back so many frames: a new attempt.
    Rewind {
        /// How many.
        back: u8,
    },
    /// The attempt before sends frames that nobody waits for any more.
    Late {
        /// How many.
        frames: u8,
    },
}

/// One run's job with all its attempts.
pub struct ModelJob {
    url: String,
    seed: u64,
    shards: u32,
    /// In the order of their opening.
    attempts: Vec<Launched>,
}

/// An attempt: a writer for each shard.
struct Launched {
    writers: Vec<Writer>,
    /// The last step of it that still stands.
    live_to_step: u64,
    /// Later ones came when the next attempt was open.
    told_to_step: u64,
}

impl ModelJob {
    /// A job that has not begun.
    pub fn new(url: String, seed: u64, shards: u32) -> Self {
        let request = open_request(Made::spec());
        let mut job = Self { url, seed, shards, attempts: Vec::new() };
        job.launch(&request, 0);
        job
    }

    fn launch(&mut self, request: &v1::OpenRunRequest, start: u64) {
        let made = Made { seed: self.seed + 1_000 * self.attempts.len() as u64, start, shards: self.shards };
        let writer = |shard| {
            let request = v1::OpenRunRequest { shard, shard_count: self.shards, ..request.clone() };
            Writer::new(self.url.clone(), request, made)
        };
        let writers = (0..self.shards).map(writer).collect();
        self.attempts.push(Launched { writers, live_to_step: u64::MAX, told_to_step: u64::MAX });
    }

    /// The run's id.
    pub fn run_id(&self) -> &str {
        &self.attempts[0].writers[0].request().run_id
    }

    /// Its writers, those of one attempt behind those of the last.
    pub fn writers(&self) -> impl Iterator<Item = &Writer> {
        self.attempts.iter().flat_map(|attempt| &attempt.writers)
    }

    /// How many attempts it has had.
    pub fn attempts(&self) -> usize {
        self.attempts.len()
    }

    fn newest(&mut self) -> &mut Vec<Writer> {
        &mut self.attempts.last_mut().expect("an attempt").writers
    }

    /// Does something; shards do it one after the other.
    pub async fn act(&mut self, op: &Op) {
        match *op {
            Op::Settle => settle(self.newest()).await,
            Op::SecondWriter => self.second_writer().await,
            Op::Rewind { back } => self.rewind(back.into()).await,
            Op::Late { frames } => {
                if let [.., before, _] = self.attempts.as_mut_slice() {
                    for writer in &mut before.writers {
                        let seqs = writer.make(repeat_n(Slot::Frame, frames.into()));
                        writer.send(seqs, 2).await;
                    }
                }
            }
            _ => {
                for writer in self.newest() {
                    write(writer, op).await;
                }
            }
        }
    }

    async fn rewind(&mut self, back: u64) {
        let newest = self.newest();
        let Some(last) = newest[0].last_seq().checked_sub(1) else { return };
        for writer in newest.iter_mut() {
            // What is resumed has to be there.
            writer.connected().await;
        }
        let step = newest[0].made().step(last.saturating_sub(back) + 1);
        let resumed = newest[0].request().clone();
        for attempt in &mut self.attempts {
            attempt.live_to_step = step.min(attempt.live_to_step);
        }
        self.launch(&next_attempt(&resumed, Some((&resumed, step))), step);
        for writer in self.newest() {
            writer.connected().await;
        }
        if let [.., before, _] = self.attempts.as_mut_slice() {
            before.told_to_step = before.writers[0].made().step(before.writers[0].last_seq());
        }
    }

    /// Another process is refused, by OpenRun and on a stream.
    async fn second_writer(&mut self) {
        let url = self.url.clone();
        let writer = &mut self.newest()[0];
        writer.connected().await;
        let request = v1::OpenRunRequest { writer_id: "another".to_owned(), ..writer.request().clone() };
        let Ok(mut peer) = Peer::try_connect(&url).await else { return };
        assert_second(&peer.open_run(&request).await.expect_err("a second writer"));
        let Ok(mut stream) = peer.stream().await else { return };
        let attempt_id = request.attempt.as_ref().expect("an attempt").attempt_id.clone();
        let v1::OpenRunRequest { run_id, shard, writer_id, .. } = request;
        let open = v1::Open { run_id, attempt_id, shard, writer_id };
        stream.send(v1::client_message::Message::Open(open)).await;
        match stream.next().await {
            Ok(Some(v1::server_message::Message::Opened(opened))) => panic!("a second writer was told {opened:?}"),
            Ok(_) => {}
            Err(status) => assert_second(&status),
        }
    }

    /// Everything is settled and the end is heard.
    pub async fn end(&mut self) {
        let newest = self.attempts.len() - 1;
        for (number, attempt) in self.attempts.iter_mut().enumerate() {
            // The end is said behind frames that are not settled yet; but shards, which wait for each other, say it here
            // one after the other.
            if number < newest || attempt.writers.len() > 1 {
                settle(&mut attempt.writers).await;
            }
        }
        for writer in self.newest() {
            writer.finish(v1::Outcome::Finished).await;
        }
    }

    /// Sends the same frames of all attempts to another server, until they are settled there.
    pub(crate) async fn replay(&self, url: &str) -> Vec<Writer> {
        let mut replayed = Vec::new();
        for attempt in &self.attempts {
            let mut writers: Vec<Writer> = attempt.writers.iter().map(|writer| writer.replay(url)).collect();
            settle(&mut writers).await;
            replayed.extend(writers);
        }
        replayed
    }

    /// Compares what a server has of it with what it must have.
    pub async fn assert_stored(&self, rest: &Rest) {
        let attempts: Vec<Attempt<'_>> = self
            .attempts
            .iter()
            .map(|attempt| Attempt {
                writer: &attempt.writers[0],
                live_to_step: attempt.live_to_step,
                told_to_step: attempt.told_to_step,
            })
            .collect();
        assert_settled(rest, self.run_id(), &attempts).await;
    }
}

/// Shards wait for each other: they settle at the same time.
async fn settle(writers: &mut Vec<Writer>) {
    let mut settling = JoinSet::new();
    for mut writer in std::mem::take(writers) {
        settling.spawn(async move {
            writer.settled().await;
            writer
        });
    }
    *writers = settling.join_all().await;
    writers.sort_by_key(|writer| writer.request().shard);
}

fn assert_second(status: &Status) {
    if status.code() == Code::AlreadyExists {
        assert_eq!(violated_field(status).as_deref(), Some("writer_id"), "{status:?}");
    } else {
        tolerated(status);
    }
}

async fn write(writer: &mut Writer, op: &Op) {
    match *op {
        Op::Send { frames, batch } => {
            let seqs = writer.make(repeat_n(Slot::Frame, frames.into()));
            writer.send(seqs, batch.into()).await;
        }
        Op::Shuffle { frames, turn } => {
            let mut seqs: Vec<u64> = writer.make(repeat_n(Slot::Frame, frames.into())).collect();
            seqs.rotate_left(usize::from(turn % frames));
            seqs[1..].reverse();
            for seq in seqs {
                writer.send(seq..=seq, 1).await;
            }
        }
        Op::Skip { frames } => {
            writer.make(repeat_n(Slot::Frame, frames.into()));
        }
        Op::Repeat { back, frames } => {
            let last = writer.sent_seq();
            let from = last.saturating_sub(back.into()).max(1);
            if from <= last {
                writer.send(from..=last.min(from + u64::from(frames) - 1), 3).await;
            }
        }
        Op::Flaw(flaw) => {
            // The first frame is what an old step is old against.
            if writer.last_seq() == 0 {
                writer.make([Slot::Frame]);
            }
            let from = writer.sent_seq() + 1;
            let seqs = writer.make([Slot::Flawed(flaw)]);
            writer.send(from..=*seqs.end(), 4).await;
        }
        Op::NonFinite => {
            let seqs = writer.make([Slot::NonFinite]);
            writer.send(seqs, 1).await;
        }
        Op::GiveUp { frames } => {
            writer.make(repeat_n(Slot::Frame, frames.into()));
            writer.give_up().await;
        }
        Op::Forget { kept } => writer.forget(kept.into()),
        Op::Heartbeat => writer.heartbeat().await,
        Op::Listen { ms } => writer.listen(Duration::from_millis(ms.into())).await,
        Op::Disconnect => writer.disconnect(),
        Op::TakeOver => writer.take_over().await,
        Op::Finish => writer.say_finish(v1::Outcome::Preempted).await,
        Op::Settle | Op::SecondWriter | Op::Rewind { .. } | Op::Late { .. } => unreachable!("of the whole job"),
    }
}
