//! [`authorize`] as unit tests have it: notes what is asked on the test's thread, and refuses what the test says. A test
//! whose runtime has one thread runs a whole server on it, so that no other test is in the way.

use std::cell::RefCell;

use bowstring_wire::error::{Code, Error, Result};

use super::{Operation, Principal, Resource};

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

struct Watched {
    asked: Vec<String>,
    refused: Option<String>,
}

/// Notes what is asked on this thread, until it is dropped.
pub struct Watch(());

impl Watch {
    /// Notes all, and allows all.
    pub fn allowing() -> Self {
        Self::start(None)
    }

    /// Refuses what is told so, such as `Get key a/k` or `Delete table cache.tensors`.
    pub fn refusing(refused: &str) -> Self {
        Self::start(Some(refused.to_owned()))
    }

    fn start(refused: Option<String>) -> Self {
        let asked = Vec::new();
        WATCHED.set(Some(Watched { asked, refused }));
        Self(())
    }

    /// What was asked since this was last called: sorted, each once.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = WATCHED.with_borrow_mut(|watched| {
            let asked = watched.as_mut().map(|watched| &mut watched.asked);
            asked.map(std::mem::take).unwrap_or_default()
        });
        asked.sort();
        asked.dedup();
        asked
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.set(None);
    }
}

/// Asks the test.
pub fn authorize(_: &Principal, operation: Operation, resource: Resource<'_>) -> Result<()> {
    WATCHED.with_borrow_mut(|watched| {
        let Some(watched) = watched else {
            return Ok(());
        };
        let asked = format!("{operation:?} {}", told(resource));
        let is_refused = watched.refused.as_ref() == Some(&asked);
        watched.asked.push(asked);
        match is_refused {
            true => Err(Error::new(Code::PermissionDenied, "the test refuses it")),
            false => Ok(()),
        }
    })
}

fn told(resource: Resource<'_>) -> String {
    match resource {
        Resource::Key(namespace, key) => format!("key {}/{}", namespace.as_str(), key.as_str()),
        Resource::Namespace(namespace) => format!("namespace {}", namespace.as_str()),
        Resource::Table(schema, name) => format!("table {schema}.{name}"),
        Resource::Server => "server".to_owned(),
    }
}
