//! How a cold tier is used.

use std::path::PathBuf;
use std::time::Duration;

use crate::store::StoreSettings;

/// When tensors are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WritePolicy {
    /// When memory is wanted for others.
    #[default]
    OnEvict,
    /// When they are put.
    OnPut,
    /// Never: what is there is still read.
    Off,
}

impl WritePolicy {
    /// Every policy, with its name in settings.
    pub const ALL: [(WritePolicy, &'static str); 3] = [
        (WritePolicy::OnEvict, "on_evict"),
        (WritePolicy::OnPut, "on_put"),
        (WritePolicy::Off, "off"),
    ];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(policy, _)| *policy == self);
        found.map_or("", |(_, name)| name)
    }
}

impl std::str::FromStr for WritePolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(policy, _)| *policy).ok_or_else(|| {
            let names = Self::ALL.map(|(_, name)| name).join(", ");
            format!("no such write policy; write_policy=`{text}` expected one of {names}")
        })
    }
}

impl std::fmt::Display for WritePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// See above.
#[derive(Debug, Clone)]
pub struct ColdSettings {
    /// The store: `file:///dir`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `memory:`.
    pub url: String,
    /// Stores of other servers, which are read and never written to.
    pub also: Vec<String>,
    /// Where the index lies, on a local disk; without it, in the store.
    pub state_dir: Option<PathBuf>,
    /// When tensors are written down.
    pub write_policy: WritePolicy,
    /// Bytes of tensors at which a segment is closed.
    pub segment_bytes: u64,
    /// A tensor of so many bytes is a segment of its own.
    pub large_bytes: u64,
    /// How long a segment waits for more.
    pub segment_wait: Duration,
    /// The same, once a put waits for it.
    pub segment_wait_urgent: Duration,
    /// Bytes of tensors that may be on their way down.
    pub queue_bytes: u64,
    /// Bytes that large tensors may have in memory on their way from the store to who reads them.
    pub passing_bytes: u64,
    /// Bytes of files that the store may have; what was not read for longest goes.
    pub bytes_max: Option<u64>,
    /// Reads after which a tensor stays in memory.
    pub stay_reads: u32,
    /// Segments that are written at one time.
    pub writes: usize,
    /// Whether what is acknowledged as written or gone survives a power cut.
    pub fsync: bool,
    /// How the store is used.
    pub store: StoreSettings,
}

impl ColdSettings {
    /// The defaults for a store.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            also: Vec::new(),
            state_dir: None,
            write_policy: WritePolicy::default(),
            segment_bytes: 32 << 20,
            large_bytes: 4 << 20,
            segment_wait: Duration::from_secs(1),
            segment_wait_urgent: Duration::from_millis(20),
            queue_bytes: 64 << 20,
            passing_bytes: 64 << 20,
            bytes_max: None,
            stay_reads: 2,
            writes: 4,
            fsync: false,
            store: StoreSettings::default(),
        }
    }
}
