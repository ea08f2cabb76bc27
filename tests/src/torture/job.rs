//! What the jobs of a torture do.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::{Dice, Shared};
use crate::{
    made::Flaw,
    model::{ModelJob, Op},
};

/// What kind of job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Temper {
    /// Sends and listens, as real ones do.
    Steady,
    /// The same from several processes whose sketches add up.
    Sharded(u32),
    /// Goes back to an earlier step now and then.
    Rewinding,
    /// Loses connections, repeats, leaves holes, sends what is invalid.
    Unruly,
}

/// Works until the torture is over, then settles everything.
pub(super) async fn run(url: String, seed: u64, temper: Temper, shared: Arc<Shared>) -> ModelJob {
    let shards = if let Temper::Sharded(shards) = temper { shards } else { 1 };
    let mut job = ModelJob::new(url, seed, shards);
    let mut dice = Dice(seed);
    let mut counted = 0;
    while !shared.over.load(Ordering::Relaxed) {
        job.act(&op(temper, &mut dice)).await;
        job.act(&Op::Listen { ms: 2 }).await;
        sleep(Duration::from_millis(dice.below(30))).await;
        let acknowledged = job.writers().map(|writer| writer.acknowledged_seq()).sum();
        shared.acknowledged.fetch_add(acknowledged - counted, Ordering::Relaxed);
        counted = acknowledged;
    }
    job.end().await;
    job
}

fn op(temper: Temper, dice: &mut Dice) -> Op {
    let send = Op::Send { frames: 1 + dice.below(4) as u8, batch: 1 + dice.below(3) as u8 };
    match (temper, dice.below(100)) {
        (Temper::Rewinding, 0) => Op::Rewind { back: dice.below(20) as u8 },
        (Temper::Rewinding, 1..4) => Op::Late { frames: 2 },
        (Temper::Unruly, 0..4) => Op::Disconnect,
        (Temper::Unruly, 4..8) => Op::TakeOver,
        (Temper::Unruly, 8..14) => Op::Repeat { back: dice.below(20) as u8, frames: 1 + dice.below(20) as u8 },
        (Temper::Unruly, 14..18) => Op::Skip { frames: 2 },
        (Temper::Unruly, 18..22) => Op::Shuffle { frames: 5, turn: dice.below(5) as u8 },
        (Temper::Unruly, 22..24) => Op::Flaw([Flaw::Nul, Flaw::OldStep][dice.below(2) as usize]),
        (Temper::Unruly, 24..26) => Op::NonFinite,
        (Temper::Unruly, 26..28) => Op::GiveUp { frames: 3 },
        (Temper::Unruly, 28..30) => Op::SecondWriter,
        (_, 90..92) => Op::Heartbeat,
        (_, 92..96) => Op::Settle,
        _ => send,
    }
}
