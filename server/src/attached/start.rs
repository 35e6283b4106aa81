//! What the settings attach. Files are read before anybody is asked for anything: where one cannot be, nothing has happened, and a
//! server that was to be replaced goes on. They are attached before anybody can ask.

use bowstring_cache::Cache;
use bowstring_wire::action::AttachSettings;
use bowstring_wire::error::Error as WireError;
use bowstring_wire::name::{Namespace, Tenant};

use super::purse::Purse;
use super::set::{self, Unnamed};
use super::{Attached, not_empty};
use crate::config::Config;
use crate::error::Error;
use crate::flight::load::roots::Roots;

/// The namespaces that the settings attach, with the keys of their files.
pub struct Ahead {
    purse: Purse,
    read: Vec<(Namespace, Unnamed)>,
}

impl Ahead {
    /// Reads them. What is kept of them must fit into `memory_bytes`.
    ///
    /// # Errors
    /// [`Error::Attach`] for the first that cannot be.
    pub async fn read(config: &Config, memory_bytes: u64) -> Result<Self, Error> {
        let purse = Purse::before(memory_bytes);
        let roots = Roots::new(config.load_roots.clone());
        let mut read = Vec::with_capacity(config.attach.len());
        for (namespace, AttachSettings { files, columns }) in &config.attach {
            let reading = async {
                let found = roots.find_apart(files.clone()).await?;
                set::read(purse.clone(), found, columns.clone()).await
            };
            let one = reading.await.map_err(|source| failed(namespace, source))?;
            read.push((namespace.clone(), one));
        }
        Ok(Self { purse, read })
    }

    /// Has the cache pay for them. Where it was a predecessor's, nothing of them may be in it.
    ///
    /// # Errors
    /// [`Error::Attach`] where it has entries of one, or no room.
    pub fn enter(&mut self, cache: &Cache) -> Result<(), Error> {
        self.purse.pass_to(cache);
        for (namespace, read) in &mut self.read {
            let first = cache.scan(&Tenant::public(), namespace, "", None, 1);
            let entered = match first.is_empty() {
                true => read.charge_to(cache),
                false => Err(not_empty(namespace)),
            };
            entered.map_err(|source| failed(namespace, source))?;
        }
        Ok(())
    }

    /// Attaches them.
    ///
    /// # Errors
    /// [`Error::Attach`] where the tier below has entries of one, or does not say.
    pub async fn attach(self, attached: &Attached, cache: &Cache) -> Result<(), Error> {
        let tenant = Tenant::public();
        for (namespace, read) in self.read {
            let size = attached.attach_read(cache, (&tenant, &namespace), read);
            let size = size.await.map_err(|source| failed(&namespace, source))?;
            tracing::info!(
                %namespace,
                files = size.files,
                rows = size.rows,
                bytes = size.bytes,
                index_bytes = size.index_bytes,
                "attached"
            );
        }
        Ok(())
    }
}

fn failed(namespace: &Namespace, source: WireError) -> Error {
    Error::Attach {
        namespace: namespace.clone(),
        source,
    }
}
