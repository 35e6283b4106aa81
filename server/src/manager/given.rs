//! The descriptors that a process has from its service manager: the kernel knows them by their numbers only.
#![expect(unsafe_code, reason = "takes descriptors by their numbers")]

use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};

use super::keep::is_ours;

/// The first of them.
const FIRST: RawFd = 3;

/// Takes those with a name of ours, at the first call; others stay where they are.
pub(super) fn take(variable: impl Fn(&str) -> Option<String>) -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name| variable(name).and_then(|value| value.parse().ok());
    let is_for_us = number("LISTEN_PID") == Some(std::process::id());
    let (Some(count), Some(names)) = (number("LISTEN_FDS"), variable("LISTEN_FDNAMES")) else {
        return Vec::new();
    };
    if !is_for_us || TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let named = (FIRST..).zip(names.split(':')).take(count as usize);
    let ours = named.filter(|(_, name)| is_ours(name));
    ours.filter_map(|(number, name)| Some((name.to_owned(), own(number)?)))
        .collect()
}

/// `None` where there is no such descriptor.
fn own(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: looked at within this function only, and nobody closes it meanwhile: it is nobody's, see below.
    let there = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(there, FdFlags::CLOEXEC).ok()?;
    // SAFETY: it is open, and by the environment the service manager has given it to this process to have; it is taken before
    // the process has opened any descriptor of its own, and once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
