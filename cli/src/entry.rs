//! The flags that say how entries are put.

use bowstring_wire::descriptor::{Admit, Mode, PutCommand};
use bowstring_wire::duration;
use clap::ValueEnum;

/// How entries are put.
#[derive(Clone, Debug, clap::Args)]
pub struct Entry {
    /// What happens to a key that is there: nothing where it has the same tensor (create), nothing (keep), it is replaced
    #[arg(long, value_enum)]
    pub mode: Option<ModeFlag>,
    /// How long entries stay: 90s, 15m, 12h, 7d; for ever where nothing is said
    #[arg(long, value_name = "TIME", value_parser = duration::parse_ttl_ms)]
    pub ttl: Option<u64>,
    /// Where the eviction policy lets entries in; `probation` goes before all that somebody has asked for
    #[arg(long, value_enum)]
    pub admit: Option<AdmitFlag>,
}

/// [`Mode`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeFlag {
    Create,
    Keep,
    Replace,
}

/// [`Admit`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AdmitFlag {
    Hot,
    Probation,
}

impl Entry {
    /// The command that they make; what nobody said is left to the namespace and the server.
    pub fn command(&self) -> PutCommand {
        PutCommand {
            mode: self.mode.map(|mode| match mode {
                ModeFlag::Create => Mode::Create,
                ModeFlag::Keep => Mode::Keep,
                ModeFlag::Replace => Mode::Replace,
            }),
            ttl_ms: self.ttl,
            admit: self.admit.map(|admit| match admit {
                AdmitFlag::Hot => Admit::Hot,
                AdmitFlag::Probation => Admit::Probation,
            }),
            ..PutCommand::default()
        }
    }
}
