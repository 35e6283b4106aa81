//! The threads that queries run on: their own, and the last that the machine thinks of.

use std::thread::available_parallelism;

use bowstring_wire::error::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::limits::STACK_BYTES;

/// The least of priorities.
const NICE: i32 = 19;

/// A runtime at idle priority. Dropped, it does not wait for what still runs.
pub struct Threads(Option<Runtime>);

impl Threads {
    /// Starts `count` threads.
    pub fn start(count: usize) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .thread_name("sql")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(|| {
                // Of this thread alone. A machine that does not allow it runs queries as it runs all else.
                let _ = rustix::process::setpriority_process(None, NICE);
            })
            .build();
        match runtime {
            Ok(runtime) => Ok(Self(Some(runtime))),
            Err(error) => Err(Error::internal(format!(
                "no threads for queries can be started; threads=`{count}` {error}"
            ))),
        }
    }

    /// To run tasks there.
    pub fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Processors of this machine.
pub fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}
