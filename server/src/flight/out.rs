//! What a get sends: small things gathered, large ones from where they lie, in frames of 1 MiB.

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use bowstring_wire::error::{Code, Error, Result};
use bytes::{Buf, Bytes};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::gather::{GATHER_BELOW_BYTES, GatherBuf};
use super::service::Service;
use super::slow::Began;
use super::source::{Ready, Source};
use super::stall::{Cut, Holds};
use crate::grpc::{Chunk, Gone, Responder};
use crate::metrics::Begun;

/// What is handed to the connection at once, and so the most that a reader who stalls holds there.
const FRAME_BYTES: usize = 1 << 20;

/// The same, of what was gathered.
const GATHERED_FRAME_BYTES: usize = 256 << 10;

/// Why a verb ended early.
#[derive(Debug)]
pub enum Failure {
    /// The caller is told.
    Refused(Error),
    /// The caller's own deadline has passed, or it has cancelled its query: in the middle of whatever was sent.
    Late(Error),
    /// Nobody is left to tell.
    Gone,
    /// We gave up on a reader that stalled while memory waited for it.
    Stalled,
}

impl Failure {
    /// The code that counters and the log have for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(error) | Self::Late(error) => error.code,
            Self::Gone => Code::Cancelled,
            Self::Stalled => Code::ResourceExhausted,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Cut> for Failure {
    fn from(Cut: Cut) -> Self {
        Self::Stalled
    }
}

impl From<Gone> for Failure {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// The body of one response.
pub struct Out<'a> {
    service: &'a Service,
    respond: &'a mut Responder,
    client: Client,
    /// A stream may last for hours: its bytes are counted as they go.
    counted: &'a Begun,
    /// Small bytes still to come, as far as the caller can tell: sizes the gather buffers.
    expected: u64,
    gather: Option<GatherBuf>,
    parts: Vec<Bytes>,
    queued: usize,
    /// Told when a reader of this response is cut off.
    cut: CancellationToken,
}

impl<'a> Out<'a> {
    /// A body whose gathered part will be about `expected` bytes.
    pub fn new(
        service: &'a Service,
        respond: &'a mut Responder,
        client: Client,
        counted: &'a Begun,
        expected: u64,
    ) -> Self {
        Self {
            service,
            respond,
            client,
            counted,
            expected,
            gather: None,
            parts: Vec::new(),
            queued: 0,
            cut: CancellationToken::new(),
        }
    }

    /// Bytes handed over so far.
    pub fn sent_bytes(&self) -> u64 {
        self.respond.sent_bytes()
    }

    /// How long it has waited for its peer so far; nothing where nobody wants to know.
    pub fn waited(&self) -> Duration {
        self.respond.waited()
    }

    /// Resolves when the peer has given up.
    pub async fn gone(&mut self) {
        self.respond.gone().await;
    }

    /// Says that about so many bytes come, of which an unknown part is gathered.
    pub fn expect(&mut self, bytes: u64) {
        self.expected = bytes;
    }

    /// `range` of a tensor, for [`Out::tensor`].
    pub fn source(&self, ready: Ready, range: Range<u64>) -> Result<Source> {
        let entry = match ready {
            Ready::Here(entry) => entry,
            Ready::Coming(coming) => return Ok(Source::Coming(coming, Bytes::new())),
        };
        let large = range.end - range.start >= GATHER_BELOW_BYTES;
        let mut reader = entry.reader(range)?;
        if large {
            let cut = self.cut.clone();
            reader.on_cut(move || cut.cancel());
        }
        Ok(Source::Here(reader))
    }

    /// Sends a header or the like.
    pub async fn bytes(&mut self, bytes: Bytes) -> Result<(), Failure> {
        if bytes.len() as u64 >= GATHER_BELOW_BYTES || (self.gather.is_none() && self.expected == 0)
        {
            self.part(bytes).await
        } else {
            self.copied(&bytes).await
        }
    }

    /// Sends a copy of `bytes`.
    pub async fn copied(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let n = self.room(bytes.len() as u64).await?.push(bytes);
            self.gathered(n).await?;
            bytes.advance(n);
        }
        Ok(())
    }

    /// Sends the next `n` bytes of a tensor.
    pub async fn tensor(&mut self, source: &mut Source, mut n: u64) -> Result<(), Failure> {
        let gathered = n < GATHER_BELOW_BYTES;
        while n > 0 {
            let want = usize::try_from(n).unwrap_or(usize::MAX);
            if let (Source::Here(reader), true) = (&mut *source, gathered) {
                let buf = self.room(n).await?;
                let step = want.min(buf.room());
                let mut copied = Ok(());
                buf.fill(step, |to| copied = reader.copy_to(to));
                copied?;
                self.gathered(step).await?;
                n -= step as u64;
                continue;
            }
            if source.at_hand() == 0 {
                self.waiting(source.more()).await??;
            }
            let room = FRAME_BYTES.saturating_sub(self.queued).max(1);
            for piece in source.take(want.min(room))? {
                n -= piece.len() as u64;
                if gathered {
                    self.copied(&piece).await?;
                } else {
                    self.part(piece).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits for what comes from elsewhere. What is queued goes out first, unless there is no wait, and who does not
    /// take it is cut off while memory is short: responses that each hold a part of the room for such things and wait
    /// for more of it would wait for ever.
    pub async fn waiting<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let mut work = pin!(work);
        if let Some(done) = work.as_mut().now_or_never() {
            return Ok(done);
        }
        self.flush().await?;
        let (stalls, clock) = (&self.service.stalls, &self.service.clock);
        let holds = Holds::Untaken(self.respond.untaken());
        Ok(stalls.unless_cut(&**clock, &self.cut, holds, work).await?)
    }

    /// Waits for what may take long, unless the client gives up. What is queued goes out first.
    #[cfg(feature = "sql")]
    pub async fn while_there<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        self.flush().await?;
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.respond.gone() => Err(Failure::Gone),
        }
    }

    /// Sends `n` zeros.
    pub async fn zeros(&mut self, mut n: u64) -> Result<(), Failure> {
        const ZEROS: Bytes = Bytes::from_static(&[0; 4096]);
        while n > 0 {
            let step = usize::try_from(n).unwrap_or(usize::MAX).min(ZEROS.len());
            self.bytes(ZEROS.slice(..step)).await?;
            n -= step as u64;
        }
        Ok(())
    }

    /// Says that a message's body comes next.
    pub async fn body_begins(&mut self) -> Result<(), Failure> {
        if self.client.wants_body_in_its_own_frame() {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Hands over what is queued.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        self.close_gather();
        self.send().await
    }

    /// A gather buffer with some room; `wanted` is what comes for sure.
    async fn room(&mut self, wanted: u64) -> Result<&mut GatherBuf, Failure> {
        if self.gather.as_ref().is_none_or(|buf| buf.room() == 0) {
            self.close_gather();
            let wanted = self.expected.max(wanted);
            self.gather = match self.service.buffers.try_take(wanted) {
                Some(buf) => Some(buf),
                None => Some(self.wait_for_room(wanted).await?),
            };
        }
        self.gather.as_mut().ok_or(Failure::Gone)
    }

    /// Waits for a buffer. What was gathered goes out first: responses that each hold a part of the
    /// wire account and wait for more of it would wait for ever.
    async fn wait_for_room(&mut self, wanted: u64) -> Result<GatherBuf, Failure> {
        self.send().await?;
        let taking = pin!(self.service.buffers.take(wanted));
        let (stalls, clock) = (&self.service.stalls, &self.service.clock);
        let untaken = self.respond.untaken();
        Ok(stalls
            .unless_cut(&**clock, &self.cut, Holds::Untaken(untaken), taking)
            .await??)
    }

    async fn gathered(&mut self, n: usize) -> Result<(), Failure> {
        self.expected = self.expected.saturating_sub(n as u64);
        self.queued += n;
        if self.queued >= GATHERED_FRAME_BYTES {
            self.flush().await?;
            // The connection writes it while it is in the cache, and the client has something to do while we gather more.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn part(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.close_gather();
        self.queued += bytes.len();
        self.parts.push(bytes);
        if self.queued >= FRAME_BYTES {
            self.send().await
        } else {
            Ok(())
        }
    }

    fn close_gather(&mut self) {
        if let Some(buf) = self.gather.take() {
            let bytes = buf.freeze();
            if !bytes.is_empty() {
                self.parts.push(bytes);
            }
        }
    }

    async fn send(&mut self) -> Result<(), Failure> {
        self.queued = 0;
        if self.parts.is_empty() {
            return Ok(());
        }
        let chunk = Chunk::new(self.parts.drain(..));
        let (service, began) = (self.service, Began::now(self.service));
        let sent = {
            let sending = pin!(self.respond.data(chunk));
            let stalls = &service.stalls;
            stalls
                .unless_cut(&*service.clock, &self.cut, Holds::Frame, sending)
                .await
        };
        self.respond.add_waited(began.elapsed(service));
        self.counted.sent(self.respond.take_uncounted_bytes());
        Ok(sent??)
    }
}
