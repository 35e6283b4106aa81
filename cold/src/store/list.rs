//! What is there.

use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::attempt::{Kind, within};
use super::error::{Result, StoreError};
use super::{Folder, ObjectName, Store};

/// An object of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its bytes.
    pub bytes: u64,
}

impl Store {
    /// The objects of a folder, in the order of their numbers. What is none of ours is not among them.
    ///
    /// Each page of a listing has the time of a request; a page that fails does not begin it anew where the
    /// store lists in order.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    pub async fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        let mut listing = Listing::default();
        let mut failures = 0;
        while let Err(error) = self.list_on(folder, &mut listing).await {
            failures += 1;
            if !error.is_transient() || failures > self.shared.settings.retries {
                return Err(error);
            }
            self.shared.counts.retries.add(1);
            self.shared.clock.sleep(self.shared.pause(failures)).await;
            if !listing.in_order || !self.shared.backend.resumes {
                listing = Listing::default();
            }
        }
        listing
            .found
            .sort_unstable_by_key(|listed| (listed.name.number(), listed.name));
        Ok(listing.found)
    }

    async fn list_on(&self, folder: Folder, listing: &mut Listing) -> Result<()> {
        let prefix = &self.shared.prefix;
        let under = folder.to_path(prefix);
        let _permit = self.shared.permit(Kind::Read).await?;
        let mut objects = match &listing.last {
            Some(last) => self
                .shared
                .backend
                .inner
                .list_with_offset(Some(&under), last),
            None => self.shared.backend.inner.list(Some(&under)),
        };
        self.shared.counts.requests.add(1);
        while let Some(object) = self.next(&mut objects).await? {
            if let Some(name) = ObjectName::parse(prefix, &object.location) {
                let bytes = object.size;
                listing.found.push(Listed { name, bytes });
            }
            listing.in_order &= listing.last.as_ref() < Some(&object.location);
            listing.last = Some(object.location);
        }
        Ok(())
    }

    async fn next(
        &self,
        objects: &mut BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> Result<Option<ObjectMeta>> {
        let next = async { objects.next().await.transpose().map_err(StoreError::from) };
        let shared = &self.shared;
        let next = within(&*shared.clock, shared.patience(), next).await;
        match shared.count(next) {
            // A directory that nobody has written to.
            Err(StoreError::NotFound) => Ok(None),
            next => next,
        }
    }
}

struct Listing {
    found: Vec<Listed>,
    last: Option<Path>,
    in_order: bool,
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            last: None,
            in_order: true,
        }
    }
}
