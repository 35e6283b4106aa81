//! Namespaces whose entries are rows of files: memory has copies of some of them, and nobody changes any.
//!
//! The rows themselves are in the tier below ([`crate::lower`]), which reads them again where memory has let them go.

use std::sync::atomic::Ordering;

use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Namespace, Tenant};

use crate::cache::Cache;
use crate::engine::Engine;
use crate::namespaces::Space;

impl Cache {
    /// From now on nothing is put into a namespace or changed in it, but by the tier below, which has so many rows, at least
    /// one. It must be empty: `is_empty_below` says whether it is so there, once nothing comes any more.
    ///
    /// # Errors
    /// `failed_precondition` where it has entries, or is attached; `resource_exhausted` for too many namespaces; those of
    /// `is_empty_below`. Then it is as it was.
    pub async fn attach(
        &self,
        tenant: &Tenant,
        namespace: &Namespace,
        rows: u64,
        is_empty_below: impl Future<Output = Result<bool>>,
    ) -> Result<()> {
        let engine = self.engine();
        let number = engine.spaces.intern(tenant, namespace)?;
        let home = engine.spaces.at(number);
        let home = home.ok_or_else(|| Error::internal("a namespace is not known"))?;
        let _turn = home.turn.lock().await;
        if home.own.attached.load(Ordering::Relaxed) {
            return Err(refused(namespace));
        }
        let attaching = Attaching::new(engine, home);
        let is_empty = self.scan(tenant, namespace, "", None, 1).is_empty();
        if !is_empty || !is_empty_below.await? {
            return Err(Error::precondition(format!(
                "only an empty namespace can be attached to files; namespace=`{namespace}`, use another one or `clear` it"
            )));
        }
        attaching.stays(rows);
        Ok(())
    }

    /// Ends that: `gone` has the tier below have nothing of it any more; then what memory has of it goes, and the namespace is
    /// an empty one.
    pub async fn detach(&self, tenant: &Tenant, namespace: &Namespace, gone: impl FnOnce()) {
        let engine = self.engine();
        let number = engine.spaces.find(tenant, namespace);
        let Some(home) = number.and_then(|number| engine.spaces.at(number)) else {
            return gone();
        };
        // What is on its way up comes before this, or is told that it is gone.
        let _turn = home.turn.lock().await;
        gone();
        self.delete_prefix_here(tenant, namespace, "").await;
        home.own.attached_rows.store(0, Ordering::Relaxed);
        set(engine, home, false);
    }

    /// Whether a namespace is attached to files.
    pub fn is_attached(&self, tenant: &Tenant, namespace: &Namespace) -> bool {
        self.engine().check_writable(tenant, namespace).is_err()
    }
}

impl Engine {
    /// Refuses what would change a namespace that is attached to files.
    ///
    /// # Errors
    /// `failed_precondition`.
    pub(crate) fn check_writable(&self, tenant: &Tenant, namespace: &Namespace) -> Result<()> {
        if self.attached.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let home = self.spaces.find(tenant, namespace);
        match home.and_then(|home| self.spaces.at(home)) {
            Some(home) => home.check_writable(),
            None => Ok(()),
        }
    }
}

impl Space {
    /// As [`Engine::check_writable`].
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.own.attached.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(refused(&self.namespace)),
        }
    }
}

fn refused(namespace: &Namespace) -> Error {
    Error::precondition(format!(
        "the namespace is attached to files and read-only, `detach` it first; namespace=`{namespace}`"
    ))
}

/// Under the lock under which entries are published: what comes after this sees it.
fn set(engine: &Engine, home: &Space, attached: bool) {
    let _base = engine.spaces.base(home);
    let was = home.own.attached.swap(attached, Ordering::Relaxed);
    match (was, attached) {
        (false, true) => engine.attached.fetch_add(1, Ordering::Relaxed),
        (true, false) => engine.attached.fetch_sub(1, Ordering::Relaxed),
        _ => 0,
    };
}

/// A namespace that is being attached; it is not where this is dropped.
struct Attaching<'a> {
    engine: &'a Engine,
    home: &'a Space,
    stays: bool,
}

impl<'a> Attaching<'a> {
    fn new(engine: &'a Engine, home: &'a Space) -> Self {
        set(engine, home, true);
        Self {
            engine,
            home,
            stays: false,
        }
    }

    fn stays(mut self, rows: u64) {
        self.home.own.attached_rows.store(rows, Ordering::Relaxed);
        self.stays = true;
    }
}

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        if !self.stays {
            set(self.engine, self.home, false);
        }
    }
}
