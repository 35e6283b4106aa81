//! The service manager that has started the server, where it speaks systemd's protocol: it is told how the server does, and
//! keeps memory from one process to the next.
//!
//! - `notify`: what is said to it
//! - `given`: the descriptors that a process has from it at its start
//! - `keep`: memory, given to its store by the process that ends and taken out by the one that starts
//!
//! Whoever starts the server without one notices nothing of this.

mod given;
mod keep;
mod notify;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use keep::{Kept, Snapshot};
use notify::Notify;

/// What is known of the service manager; the default is that there is none.
#[derive(Debug, Default)]
pub struct Manager {
    notify: Option<Arc<Notify>>,
    /// Descriptors that it keeps for the server, at most.
    keeps_max: usize,
    /// Those that it has kept, by their names.
    given: Vec<(String, OwnedFd)>,
}

impl Manager {
    /// The one that the environment names, with the descriptors that it gave this process: once, and before the process has
    /// opened any of its own.
    #[must_use]
    pub fn of_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let notify = std::env::var_os("NOTIFY_SOCKET").and_then(|address| {
            let notify = Notify::to(&address);
            notify
                .inspect_err(
                    |error| tracing::warn!(%error, "the service manager cannot be told anything"),
                )
                .ok()
        });
        let keeps_max = variable("FDSTORE").and_then(|max| max.parse().ok());
        Self {
            notify: notify.map(Arc::new),
            keeps_max: keeps_max.unwrap_or(0),
            given: given::take(variable),
        }
    }

    /// The server can be asked.
    pub async fn ready(&self) {
        self.tell("READY=1").await;
    }

    /// It does not take anything new.
    pub async fn stopping(&self) {
        self.tell("STOPPING=1").await;
    }

    async fn tell(&self, state: &'static str) {
        let Some(notify) = self.notify.clone() else {
            return;
        };
        let told = tokio::task::spawn_blocking(move || notify.say(state)).await;
        if let Err(error) = told.map_err(std::io::Error::other).flatten() {
            tracing::warn!(%error, state, "the service manager was not told");
        }
    }
}

#[cfg(test)]
mod tests;
