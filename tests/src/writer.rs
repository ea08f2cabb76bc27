//! A client that obeys the protocol, speaks it by hand, and keeps a ledger of everything it was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use gradwatch_proto::v1::{self, OpenRunRequest, RejectCode, client_message::Message, server_message};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use crate::{
    PATIENCE,
    made::{Made, Slot},
    wire::{Peer, PeerStream},
};

/// How long a server that has what it needs may be silent. Real clients connect again then; here it is a failure.
const SILENCE: Duration = Duration::from_secs(30);

/// What one shard of an attempt sends and was told.
pub struct Writer {
    url: String,
    request: OpenRunRequest,
    made: Made,
    slots: Vec<Slot>,
    /// Stretches that were given up, by their first seq.
    given_up: BTreeMap<u64, u64>,
    /// The last seq that was ever sent.
    sent_seq: u64,
    acknowledged_seq: u64,
    keep_from_seq: u64,
    opened: bool,
    segment: Option<u32>,
    stream: Option<PeerStream>,
    /// An earlier stream that this writer's next one took over.
    left: Option<PeerStream>,
    /// The oldest frame that it still has: a real client's buffer may be too small for all that the server could need.
    oldest_seq: u64,
    /// Frames that were told to be rejected through no fault of theirs; `None` while that is a failure.
    refused: Option<BTreeSet<u64>>,
    /// Acknowledgements that were heard.
    pub acknowledgements: u64,
}

impl Writer {
    /// A writer of an attempt, which connects when it has something to send.
    pub fn new(url: String, request: OpenRunRequest, made: Made) -> Self {
        Self {
            url,
            request,
            made,
            slots: Vec::new(),
            given_up: BTreeMap::new(),
            sent_seq: 0,
            acknowledged_seq: 0,
            keep_from_seq: 0,
            opened: false,
            segment: None,
            stream: None,
            left: None,
            oldest_seq: 1,
            refused: None,
            acknowledgements: 0,
        }
    }

    /// A writer of the same frames that has sent none of them yet.
    pub(crate) fn replay(&self, url: &str) -> Self {
        let mut writer = Self::new(url.to_owned(), self.request.clone(), self.made);
        writer.slots.clone_from(&self.slots);
        writer.given_up.clone_from(&self.given_up);
        writer
    }

    /// Expects that a database refuses its rows, so that frames are rejected that are as they should be.
    pub fn expect_refusals(&mut self) {
        self.refused.get_or_insert_default();
    }

    /// The frames that were told to be rejected through no fault of theirs. An answer that is lost tells nothing.
    pub fn refused(&self) -> &BTreeSet<u64> {
        static NONE: BTreeSet<u64> = BTreeSet::new();
        self.refused.as_ref().unwrap_or(&NONE)
    }

    /// What it opened, or will open.
    pub fn request(&self) -> &OpenRunRequest {
        &self.request
    }

    /// Where its frames come from.
    pub fn made(&self) -> &Made {
        &self.made
    }

    /// What each seq stands for: `slots()[seq − 1]`.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The stretches that were given up, by their first seq.
    pub fn given_up(&self) -> &BTreeMap<u64, u64> {
        &self.given_up
    }

    /// Whether it let go of settled frames, which a server may need to fill its windows again.
    pub fn forgot(&self) -> bool {
        self.oldest_seq > 1
    }

    /// The last seq that there is.
    pub fn last_seq(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The last seq that was acknowledged.
    pub fn acknowledged_seq(&self) -> u64 {
        self.acknowledged_seq
    }

    /// The segment that the server calls it, once it is open.
    pub fn segment(&self) -> Option<u32> {
        self.segment
    }

    /// Makes frames; answers their seqs.
    pub fn make(&mut self, slots: impl IntoIterator<Item = Slot>) -> RangeInclusive<u64> {
        let first = self.last_seq() + 1;
        self.slots.extend(slots);
        first..=self.last_seq()
    }

    /// Sends a stretch as it is now, in batches of at most `batch` frames.
    pub async fn send(&mut self, seqs: RangeInclusive<u64>, batch: usize) {
        self.connected().await;
        self.sent_seq = self.sent_seq.max(*seqs.end());
        self.send_again(seqs, batch).await;
    }

    /// Sends a stretch that was sent before, or is about to be.
    async fn send_again(&mut self, seqs: RangeInclusive<u64>, batch: usize) {
        let Some(stream) = &self.stream else { return };
        let mut frames = Vec::new();
        let mut seq = *seqs.start();
        while seq <= *seqs.end() {
            let stretch = self.given_up.range(..=seq).next_back().filter(|&(_, &to_seq)| seq <= to_seq);
            if let Some((&from_seq, &to_seq)) = stretch {
                stream.frames(std::mem::take(&mut frames)).await;
                let (first_step, last_step) = (self.made.step(from_seq), self.made.step(to_seq));
                stream.send(Message::Dropped(v1::Dropped { from_seq, to_seq, first_step, last_step })).await;
                seq = to_seq + 1;
                continue;
            }
            frames.push(self.made.frame(seq, self.request.shard, self.slots[seq as usize - 1]));
            if frames.len() >= batch {
                stream.frames(std::mem::take(&mut frames)).await;
            }
            seq += 1;
        }
        if !frames.is_empty() {
            stream.frames(frames).await;
        }
    }

    /// Gives up the frames that were never sent.
    pub async fn give_up(&mut self) {
        // The first frame is what an old step is old against.
        let (from_seq, to_seq) = (self.sent_seq.max(1) + 1, self.last_seq());
        if from_seq <= to_seq {
            self.given_up.insert(from_seq, to_seq);
            self.send(from_seq..=to_seq, 1).await;
        }
    }

    /// Lets go of all settled frames but some.
    pub fn forget(&mut self, kept: u64) {
        self.oldest_seq = self.oldest_seq.max((self.acknowledged_seq + 1).saturating_sub(kept));
    }

    /// The last seq that was ever sent.
    pub fn sent_seq(&self) -> u64 {
        self.sent_seq
    }

    /// A sign of life.
    pub async fn heartbeat(&mut self) {
        self.connected().await;
        if let Some(stream) = &self.stream {
            stream.send(Message::Heartbeat(v1::Heartbeat {})).await;
        }
    }

    /// The job's word of its end, not waited for.
    pub async fn say_finish(&mut self, outcome: v1::Outcome) {
        self.connected().await;
        let finish = v1::Finish { outcome: outcome.into(), last_seq: self.last_seq() };
        if let Some(stream) = &self.stream {
            stream.send(Message::Finish(finish)).await;
        }
    }

    /// Lets the stream go without a word.
    pub fn disconnect(&mut self) {
        self.stream = None;
        self.left = None;
    }

    /// Opens another stream while the last is still there, and goes on talking on the last.
    pub async fn take_over(&mut self) {
        self.left = self.stream.take();
        self.connected().await;
        // What comes on the old one now is nobody's: were it taken in, it would not be what the ledger says.
        let other = Made { seed: !self.made.seed, ..self.made };
        if let Some(left) = &self.left {
            for seq in self.acknowledged_seq + 1..=self.last_seq() {
                left.frames(vec![other.frame(seq, self.request.shard, Slot::Frame)]).await;
            }
        }
    }

    /// Has an open stream; the server is waited for.
    pub async fn connected(&mut self) {
        let connecting = async {
            while self.stream.is_none() {
                if let Err(status) = self.connect().await {
                    tolerated(&status);
                    sleep(Duration::from_millis(5)).await;
                }
            }
        };
        timeout(PATIENCE, connecting).await.expect("the server opens a stream");
    }

    async fn connect(&mut self) -> Result<(), Status> {
        let mut peer = Peer::try_connect(&self.url).await.map_err(|error| Status::unavailable(error.to_string()))?;
        if !self.opened {
            let segment = peer.open_run(&self.request).await?;
            self.opened = true;
            self.segment = Some(segment);
        }
        let mut stream = peer.stream().await?;
        let attempt_id = self.request.attempt.as_ref().expect("an attempt").attempt_id.clone();
        let OpenRunRequest { run_id, shard, writer_id, .. } = self.request.clone();
        stream.send(Message::Open(v1::Open { run_id, attempt_id, shard, writer_id })).await;
        let opened = match stream.next().await? {
            Some(server_message::Message::Opened(opened)) => opened,
            // It is shutting down.
            Some(server_message::Message::Drain(_)) | None => return Err(Status::unavailable("no Opened")),
            Some(other) => panic!("{other:?} before Opened"),
        };
        let v1::Opened { segment, committed_seq, resend_from_seq, .. } = opened;
        assert_eq!(Some(segment), self.segment, "an attempt keeps its number");
        assert!(
            committed_seq >= self.acknowledged_seq,
            "acknowledged up to {}, but settled up to {committed_seq} only",
            self.acknowledged_seq
        );
        assert!(committed_seq <= self.sent_seq, "{committed_seq} settled of {} sent", self.sent_seq);
        assert!(resend_from_seq <= committed_seq + 1, "{opened:?}");
        assert!(resend_from_seq >= self.keep_from_seq, "{opened:?}: kept from {} only", self.keep_from_seq);
        self.acknowledged_seq = committed_seq;
        self.stream = Some(stream);
        self.send_again(resend_from_seq.max(self.oldest_seq)..=self.sent_seq, 7).await;
        Ok(())
    }

    /// Reads and obeys what comes until nothing has come for a while.
    pub async fn listen(&mut self, quiet: Duration) {
        while let Some(stream) = &mut self.stream {
            match timeout(quiet, stream.next()).await {
                Ok(message) => self.obey(message).await,
                Err(_) => return,
            }
        }
    }

    /// Sends everything and waits until it is acknowledged.
    pub async fn settled(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.connected().await;
            if self.sent_seq < self.last_seq() {
                self.send(self.sent_seq + 1..=self.last_seq(), 7).await;
            }
            if self.acknowledged_seq == self.last_seq() {
                return;
            }
            assert!(Instant::now() < deadline, "not settled: {}", self.describe());
            let Some(stream) = &mut self.stream else { continue };
            let message = timeout(SILENCE, stream.next()).await;
            let message = message.unwrap_or_else(|_| panic!("the server is silent: {}", self.describe()));
            self.obey(message).await;
        }
    }

    /// Says the end behind everything that there is, until it is heard. That it was heard means that everything is
    /// settled.
    pub async fn finish(&mut self, outcome: v1::Outcome) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.connected().await;
            if self.sent_seq < self.last_seq() {
                self.send(self.sent_seq + 1..=self.last_seq(), 7).await;
            }
            // A hole would be asked for when nobody can answer any more.
            self.listen(Duration::from_millis(5)).await;
            self.say_finish(outcome).await;
            let Some(mut stream) = self.stream.take() else { continue };
            stream.half_close();
            loop {
                match stream.next().await {
                    Ok(None) => {
                        assert_eq!(
                            self.acknowledged_seq,
                            self.last_seq(),
                            "over before it is settled: {}",
                            self.describe()
                        );
                        return;
                    }
                    // It may have gone without having read the word.
                    Ok(Some(server_message::Message::Drain(_))) => break,
                    Ok(Some(server_message::Message::Ack(ack))) => self.acknowledge(ack),
                    // Of frames that came twice.
                    Ok(Some(server_message::Message::Rejected(rejected))) => self.rejected(&rejected),
                    // Too late to be sent again on this stream.
                    Ok(Some(server_message::Message::Resend(_))) => {}
                    Ok(Some(other)) => panic!("{other:?} behind Finish"),
                    Err(status) => {
                        tolerated(&status);
                        break;
                    }
                }
            }
            assert!(Instant::now() < deadline, "the end is not heard: {}", self.describe());
        }
    }

    async fn obey(&mut self, message: Result<Option<server_message::Message>, Status>) {
        match message {
            Ok(Some(server_message::Message::Ack(ack))) => self.acknowledge(ack),
            Ok(Some(server_message::Message::Resend(v1::Resend { from_seq }))) => {
                assert!(
                    from_seq > self.acknowledged_seq && from_seq <= self.sent_seq,
                    "Resend {from_seq}: {}",
                    self.describe()
                );
                self.send_again(from_seq..=self.sent_seq, 7).await;
            }
            Ok(Some(server_message::Message::Rejected(rejected))) => self.rejected(&rejected),
            Ok(Some(server_message::Message::Drain(_)) | None) => self.stream = None,
            Ok(Some(other)) => panic!("{other:?}"),
            Err(status) => {
                tolerated(&status);
                self.stream = None;
            }
        }
    }

    fn acknowledge(&mut self, ack: v1::Ack) {
        let v1::Ack { committed_seq, keep_from_seq } = ack;
        assert!(committed_seq > self.acknowledged_seq, "{ack:?} again: {}", self.describe());
        assert!(committed_seq <= self.sent_seq, "{ack:?}: {}", self.describe());
        assert!(keep_from_seq <= committed_seq + 1, "{ack:?}");
        self.acknowledged_seq = committed_seq;
        self.keep_from_seq = keep_from_seq;
        self.acknowledgements += 1;
    }

    fn rejected(&mut self, rejected: &v1::Rejected) {
        if rejected.code() == RejectCode::Internal
            && let Some(refused) = &mut self.refused
        {
            refused.insert(rejected.seq);
            return;
        }
        let slot = self.slots[rejected.seq as usize - 1];
        let Slot::Flawed(flaw) = slot else { panic!("{rejected:?}: frame {} is {slot:?}", rejected.seq) };
        assert_eq!(rejected.field, flaw.field(), "{rejected:?}");
        assert!(!rejected.message.is_empty(), "{rejected:?}");
    }

    fn describe(&self) -> String {
        format!(
            "attempt {:?} of run {}: acknowledged {} of {} sent of {}, keeps from {}, given up {:?}",
            self.segment,
            self.request.run_id,
            self.acknowledged_seq,
            self.sent_seq,
            self.last_seq(),
            self.keep_from_seq,
            self.given_up,
        )
    }
}

/// A stream may end in ways that a client tries again after; a refusal for good is none of them.
pub fn tolerated(status: &Status) {
    let refused = !status.details().is_empty() && !matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
    let final_by_code = matches!(
        status.code(),
        Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition | Code::NotFound | Code::OutOfRange
    );
    assert!(!refused && !final_by_code, "a client would give up: {status:?}");
}
