//! The threads of this room: queries', which run when nobody else wants the core, and walks', which may take locks and so are
//! as good as any other. Walks have their own, so that what asks for nothing but a key never waits behind one.

use std::thread::available_parallelism;

use bowstring_wire::error::{Error, Result};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::limits::{STACK_BYTES, WALK_BLOCKING_THREADS_MAX};

/// Threads with a runtime. Dropped, it does not wait for what still runs.
pub struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// `count` threads for queries, at idle priority.
    pub fn queries(count: usize) -> Result<Self> {
        let mut runtime = Builder::new_multi_thread();
        runtime
            .worker_threads(count)
            .thread_name("sql")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(be_idle);
        Self::start(runtime)
    }

    /// Threads for walks, which leave half of the processors to others.
    pub fn walks() -> Result<Self> {
        let mut runtime = Builder::new_multi_thread();
        runtime
            .worker_threads((cores() / 2).max(1))
            .thread_name("sql-walk")
            // What is not in memory is read by these.
            .max_blocking_threads(WALK_BLOCKING_THREADS_MAX)
            .enable_all();
        Self::start(runtime)
    }

    fn start(mut runtime: Builder) -> Result<Self> {
        let started = runtime.build();
        let runtime = started.map_err(|error| {
            Error::internal(format!("no threads for queries can be started; {error}"))
        })?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// To run tasks there.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Of the thread that calls it alone. Not the least of nice levels: at that a thread still has its turn of milliseconds, which
/// others wait for.
fn be_idle() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // A machine that does not allow it runs queries as it runs all else.
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Processors of this machine.
pub fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}
