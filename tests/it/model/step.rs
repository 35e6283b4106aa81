//! Random operations, drawn from a seed. They name loads and keys by number, so that any part of a
//! sequence is a sequence too.

use std::ops::Range;
use std::sync::OnceLock;

use bowstring_wire::descriptor::Mode;

/// What is drawn from.
#[derive(Debug, Clone)]
pub struct World {
    pub keys: u16,
    /// Which [`contents`] are put, by number.
    pub contents: Range<usize>,
    /// Whether the clock can be moved and what is held can be looked at: not through a server.
    pub inside: bool,
    /// The most rows of one put.
    pub rows: u16,
}

/// Namespaces.
pub const SPACES: usize = 2;

#[derive(Debug, Clone)]
pub enum Step {
    Put(usize, u16, Put, Option<Wanted>),
    Rows(usize, Keys, Put),
    /// Reserves and writes some, and thinks better of it.
    GiveUp(usize, u16, usize),
    Look(usize, u16),
    /// Gets several keys, or a prefix, beside something else that happens.
    Many(usize, Keys, Option<Box<Step>>),
    Scan(usize, u8, Option<Box<Step>>),
    Delete(usize, u16, Option<Wanted>),
    DeletePrefix(usize, u8),
    Clear(usize),
    Expire(usize, u16, Option<u64>),
    Pin(usize, u16),
    Unpin(usize, u16),
    DefaultTtl(usize, Option<u64>),
    EntriesMax(usize, Option<u64>),
    Begin(usize, bool),
    DeclareTooMuch(usize),
    Commit(u8),
    Abort(u8),
    Rollback(usize),
    /// Sends a call of a load that has ended once more.
    Again(u8, u8),
    Pass(u64),
    Tidy(bool),
    ExpireDue,
    Hold(usize),
    LookHeld(u8, Keys),
    ScanHeld(u8, u8),
    LetGo(u8),
    Read(usize, u16),
    EndRead,
}

#[derive(Debug, Clone)]
pub struct Put {
    pub mode: Mode,
    pub content: usize,
    pub ttl_ms: Option<u64>,
    pub pin: bool,
    /// One of the open loads of the namespace.
    pub load: Option<u8>,
}

/// Which version a put or a delete asks for.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    There,
    None,
}

/// Some keys, one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct Keys(pub u16, pub u16);

/// Tensors, as bytes: 8 of 64 bytes, 8 small ones, 8 up to a page, 8 of some pages.
pub fn contents() -> &'static [Vec<u8>] {
    const LENS: [usize; 24] = [
        0, 1, 63, 100, 1_000, 1_000, 3_000, 9_000, 16_000, 16_000, 40_000, 50_000, 65_535, 65_536,
        65_537, 70_000, 100_000, 131_072, 200_000, 200_000, 300_000, 400_000, 1_048_575, 1_048_577,
    ];
    static CONTENTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    CONTENTS.get_or_init(|| {
        let lens = [64; 8].into_iter().chain(LENS);
        let mut dice = Dice(7);
        let content = |len| (0..len).map(|_| dice.next().to_le_bytes()[0]).collect();
        lens.map(content).collect()
    })
}

pub fn key(number: u16) -> String {
    let part = char::from(b'a' + number.to_le_bytes()[0] % 4);
    format!("{part}/{number:03}")
}

pub fn prefix(number: u8) -> String {
    match number {
        0 => String::new(),
        1..=4 => char::from(b'a' + number - 1).to_string(),
        _ => format!("{}/0{}", char::from(b'a' + number % 4), number % 8),
    }
}

/// `SplitMix64`.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn small(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn space(&mut self) -> usize {
        usize::from(self.one_in(3))
    }

    fn key(&mut self, world: &World) -> u16 {
        u16::try_from(self.below(world.keys.into())).unwrap_or(0)
    }

    fn keys(&mut self, world: &World, most: u16) -> Keys {
        let count = u16::try_from(self.below(u64::from(most.min(world.keys)))).unwrap_or(0);
        Keys(self.key(world), count + 1)
    }

    fn wanted(&mut self) -> Option<Wanted> {
        match self.below(8) {
            0 => Some(Wanted::None),
            1 => Some(Wanted::There),
            _ => None,
        }
    }

    /// Milliseconds: soon, or far off.
    fn ttl(&mut self, world: &World) -> u64 {
        match self.below(3) {
            0 => 3_600_000,
            _ if !world.inside => 1,
            1 => 1 + self.below(2_500),
            _ => 1_000 * (1 + self.below(900)),
        }
    }

    fn put(&mut self, world: &World) -> Put {
        let contents = world.contents.len() as u64;
        let content = usize::try_from(self.below(contents)).unwrap_or(0);
        Put {
            mode: [Mode::Create, Mode::Keep, Mode::Replace, Mode::Replace]
                [usize::from(self.small() % 4)],
            content: world.contents.start + content,
            ttl_ms: self.one_in(5).then(|| self.ttl(world)),
            pin: self.one_in(16),
            load: self.one_in(2).then(|| self.small()),
        }
    }

    fn beside(&mut self, world: &World) -> Option<Box<Step>> {
        let step = match self.below(6) {
            0 | 1 => Step::Commit(self.small()),
            2 => Step::Rollback(self.space()),
            3 => Step::Put(self.space(), self.key(world), self.put(world), None),
            _ => return None,
        };
        Some(Box::new(step))
    }

    /// One step more.
    pub fn step(&mut self, world: &World) -> Step {
        let space = self.space();
        match self.below(100) {
            0..25 => Step::Put(space, self.key(world), self.put(world), self.wanted()),
            25..31 => Step::Rows(space, self.keys(world, world.rows), self.put(world)),
            31..46 => Step::Look(space, self.key(world)),
            46..50 => Step::Many(space, self.keys(world, 12), self.beside(world)),
            50..53 => {
                let prefix = self.small() % 12;
                Step::Scan(space, prefix, self.beside(world))
            }
            53..58 => Step::Delete(space, self.key(world), self.wanted()),
            58 => Step::DeletePrefix(space, self.small() % 12),
            59 if self.one_in(2) => Step::Clear(space),
            59 => Step::DeclareTooMuch(space),
            60..63 => {
                let ttl = (!self.one_in(3)).then(|| self.ttl(world));
                Step::Expire(space, self.key(world), ttl)
            }
            63..65 => Step::Pin(space, self.key(world)),
            65..69 => Step::Unpin(space, self.key(world)),
            69 if self.one_in(3) => {
                let max = self.one_in(3).then(|| 3 + self.below(world.keys.into()));
                Step::EntriesMax(space, max)
            }
            69 => {
                let ttl = self.one_in(3).then(|| self.ttl(world));
                Step::DefaultTtl(space, ttl)
            }
            70..73 => Step::Begin(space, self.one_in(2)),
            73..76 => Step::Commit(self.small()),
            76 => Step::Abort(self.small()),
            77..79 => Step::Rollback(space),
            79 => Step::Again(self.small(), self.small()),
            _ if !world.inside => Step::Look(space, self.key(world)),
            80 => Step::GiveUp(space, self.key(world), self.put(world).content),
            81..84 => Step::Pass(1 + self.below(400)),
            84 if self.one_in(4) => Step::Pass(1_000 * self.below(700)),
            84 => Step::Pass(self.below(10_000)),
            85..88 => Step::Tidy(self.one_in(3)),
            88 => Step::ExpireDue,
            89..91 => Step::Hold(space),
            91..94 => Step::LookHeld(self.small(), self.keys(world, 12)),
            94 => Step::ScanHeld(self.small(), self.small() % 12),
            95 => Step::LetGo(self.small()),
            96..98 => Step::Read(space, self.key(world)),
            _ => Step::EndRead,
        }
    }
}
