//! Gets of what memory has not. Those that came in one read are loaded together, and each is answered when it is there:
//! what memory has goes past them.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use bowstring_cache::Id;
use bowstring_cache::known::Known;
use bowstring_cache::lower::{Description, Found, InPieces, Reading};
use bowstring_cache::read::Entry;
use bowstring_wire::error::Result;
use bowstring_wire::mux::MuxTensor;
use bowstring_wire::version::Version;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::request::{describe, not_modified};
use super::timed::Timed;
use crate::flight::lookup::below_bytes;
use crate::flight::select::{not_found, rows_of};
use crate::flight::service::Service;
use crate::flight::source::{self, Begun, Ready};
use bowstring_wire::limits::MUX_LARGE_MAX;

/// Gets that wait at one time, or were cancelled while they were being loaded: while there are as many, no request
/// is taken.
const WAITING_MAX: usize = 256;
/// Loads of several keys that are under way at one time; each may have a part of the bytes that one reader may have.
const LOADS_MAX: usize = 4;

/// A get of a key that memory has not.
pub struct Wanted {
    /// The request's number.
    pub number: u32,
    /// Of what.
    pub id: Id,
    /// Which rows of it.
    pub rows: Option<(u64, u64)>,
    /// Not where the entry has this version.
    pub unless_version: Option<Version>,
}

/// A tensor and which of its bytes are sent.
pub type Hit = (MuxTensor, (Ready, Range<u64>));

/// What a get that waited is answered with.
pub struct Came {
    /// The request's number.
    pub number: u32,
    /// When it was taken.
    pub timed: Timed,
    /// What it came to.
    pub hit: Result<Hit>,
}

/// The gets of one exchange that wait.
pub struct Below<'a> {
    service: &'a Service,
    /// By their numbers. One that was cancelled is not here, and its number may be another's.
    waiting: HashMap<u32, (u64, Timed)>,
    /// Those whose load has not begun.
    asked: VecDeque<Asked>,
    /// By themselves: rows, and what is too large for memory.
    alone: VecDeque<(Asked, Option<Box<dyn InPieces>>)>,
    loads: FuturesUnordered<BoxFuture<'a, Loaded>>,
    /// Gets whose load is under way, those that were cancelled since too.
    loading: usize,
    together: usize,
    serial: u64,
}

struct Asked {
    serial: u64,
    wanted: Wanted,
}

/// What a load came to.
struct Loaded {
    came: Vec<(Asked, Result<Hit>)>,
    /// What is to be read by itself.
    large: Vec<(Asked, Box<dyn InPieces>)>,
    /// What there was no room for beside the others.
    rest: Vec<Asked>,
    was_together: bool,
}

impl Wanted {
    /// What of a tensor is sent.
    ///
    /// # Errors
    /// `not_modified`, or `invalid_argument` for rows that are not there.
    pub fn of(&self, known: &Known<&Entry, &Description>) -> Result<(MuxTensor, Range<u64>)> {
        if self.unless_version == Some(known.version()) {
            return Err(not_modified(known.version()));
        }
        let (mut tensor, mut range) = (describe(known), 0..known.bytes());
        if let Some(rows) = self.rows {
            (tensor.shape, range) = rows_of(&tensor.shape, known.bytes(), rows)?;
            tensor.checksum = None;
        }
        Ok((tensor, range))
    }

    /// The same of an entry in memory.
    ///
    /// # Errors
    /// As [`Wanted::of`].
    pub fn here(&self, entry: Entry) -> Result<Hit> {
        let (tensor, range) = self.of(&Known::Hot(&entry))?;
        Ok((tensor, (Ready::Here(entry), range)))
    }

    fn missing(&self) -> Result<Hit> {
        Err(not_found(&self.id.namespace, &self.id.key))
    }
}

impl<'a> Below<'a> {
    /// Of an exchange.
    pub fn new(service: &'a Service) -> Self {
        Self {
            service,
            waiting: HashMap::new(),
            asked: VecDeque::new(),
            alone: VecDeque::new(),
            loads: FuturesUnordered::new(),
            loading: 0,
            together: 0,
            serial: 0,
        }
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether one more may wait.
    pub fn has_room(&self) -> bool {
        self.asked.len() + self.alone.len() + self.loading < WAITING_MAX
    }

    /// Whether the get of this number waits.
    pub fn is_waiting(&self, number: u32) -> bool {
        self.waiting.contains_key(&number)
    }

    /// Takes a get; [`Below::begin`] begins its load.
    pub fn ask(&mut self, wanted: Wanted, timed: Timed) {
        self.serial += 1;
        let serial = self.serial;
        self.waiting.insert(wanted.number, (serial, timed));
        let asked = Asked { serial, wanted };
        match asked.wanted.rows {
            None => self.asked.push_back(asked),
            Some(_) => self.alone.push_back((asked, None)),
        }
    }

    /// Lets go of a get that waits. One whose load has begun is held until that is done.
    pub fn cancel(&mut self, number: u32) -> Option<Timed> {
        let (serial, timed) = self.waiting.remove(&number)?;
        self.asked.retain(|asked| asked.serial != serial);
        self.alone.retain(|(asked, _)| asked.serial != serial);
        Some(timed)
    }

    /// Begins to load what was asked for, while `large` replies are being sent in chunks.
    pub fn begin(&mut self, large: usize) {
        let service = self.service;
        if !self.asked.is_empty() && self.together < LOADS_MAX {
            self.together += 1;
            let together: Vec<Asked> = self.asked.drain(..).collect();
            self.loading += together.len();
            self.loads.push(load_together(service, together).boxed());
        }
        while large + self.loads.len() - self.together < MUX_LARGE_MAX
            && let Some((asked, below)) = self.alone.pop_front()
        {
            self.loading += 1;
            self.loads.push(load_alone(service, asked, below).boxed());
        }
    }

    /// Some that have come. Waits where there are none. Nothing is lost where this is dropped before it is done.
    pub async fn next(&mut self) -> Vec<Came> {
        let Some(loaded) = self.loads.next().await else {
            return std::future::pending().await;
        };
        self.together -= usize::from(loaded.was_together);
        self.loading -= loaded.came.len() + loaded.large.len() + loaded.rest.len();
        for asked in loaded.rest.into_iter().rev() {
            if self.is_wanted(&asked) {
                self.asked.push_front(asked);
            }
        }
        for (asked, below) in loaded.large {
            if self.is_wanted(&asked) {
                self.alone.push_back((asked, Some(below)));
            }
        }
        let mut came = Vec::with_capacity(loaded.came.len());
        for (asked, hit) in loaded.came {
            let number = asked.wanted.number;
            if self.is_wanted(&asked)
                && let Some((_, timed)) = self.waiting.remove(&number)
            {
                came.push(Came { number, timed, hit });
            }
        }
        came
    }

    /// Whether it was not cancelled.
    fn is_wanted(&self, asked: &Asked) -> bool {
        let there = self.waiting.get(&asked.wanted.number);
        there.is_some_and(|(serial, _)| *serial == asked.serial)
    }
}

async fn load_together(service: &Service, mut asked: Vec<Asked>) -> Loaded {
    let cache = &service.cache;
    let ids: Vec<Id> = asked.iter().map(|asked| asked.wanted.id.clone()).collect();
    let bytes_max = below_bytes(cache) / LOADS_MAX as u64;
    let found = cache
        .lower()
        .open_all(cache, &ids, bytes_max, Reading::Whole)
        .await;
    let mut loaded = Loaded {
        came: Vec::new(),
        large: Vec::new(),
        rest: Vec::new(),
        was_together: true,
    };
    // An error is the first one's.
    let (found, error) = match found {
        Ok(found) => (found, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let first = found.len() + usize::from(error.is_some());
    loaded.rest = asked.split_off(first.min(asked.len()));
    let mut found = found.into_iter();
    for asked in asked {
        let hit = match (found.next(), &error) {
            (Some(Some(Found::Below(below))), _) => {
                loaded.large.push((asked, below));
                continue;
            }
            (Some(Some(Found::Here(entry))), _) => asked.wanted.here(entry),
            // What has taken its place meanwhile is no miss.
            (Some(None), _) => match cache.get(&asked.wanted.id) {
                Some(entry) => asked.wanted.here(entry),
                None => asked.wanted.missing(),
            },
            (None, Some(error)) => Err(error.clone()),
            (None, None) => asked.wanted.missing(),
        };
        loaded.came.push((asked, hit));
    }
    loaded
}

async fn load_alone(service: &Service, asked: Asked, below: Option<Box<dyn InPieces>>) -> Loaded {
    let hit = one(service, &asked.wanted, below).await;
    Loaded {
        came: vec![(asked, hit)],
        large: Vec::new(),
        rest: Vec::new(),
        was_together: false,
    }
}

async fn one(service: &Service, wanted: &Wanted, below: Option<Box<dyn InPieces>>) -> Result<Hit> {
    if let Some(below) = below {
        let (tensor, range) = wanted.of(&Known::Cold(below.description()))?;
        match source::begin(&*below, range.clone()).await? {
            Begun::Ready(coming) => return Ok((tensor, (Ready::Coming(coming), range))),
            Begun::Changed => {}
            Begun::Missing => return wanted.missing(),
        }
    }
    let reading = match wanted.rows {
        Some(_) => Reading::Part,
        None => Reading::Whole,
    };
    let of = |known: &Known<&Entry, &Description>| {
        let (tensor, range) = wanted.of(known)?;
        Ok(((tensor, range.clone()), range))
    };
    match source::find(service, &wanted.id, reading, of).await? {
        Some(((tensor, range), ready)) => Ok((tensor, (ready, range))),
        None => wanted.missing(),
    }
}
