//! Loads that are under way, one a key: who asks for a key that is being loaded waits for that.

use std::collections::HashMap;

use bowstring_cache::Id;
use bowstring_wire::name::{Namespace, Tenant};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::is_under;
use super::reader::Landed;

/// A load that others join.
pub(super) type Flight = watch::Receiver<Option<Landed>>;

/// What it came to is told here.
pub(super) type Land = watch::Sender<Option<Landed>>;

#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<Id, Flight>>);

impl Flights {
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The load of a key; and where there was none, what to end it by, which the caller begins.
    pub(super) fn join(&self, id: &Id) -> (Flight, Option<Land>) {
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(id) {
            return (flight.clone(), None);
        }
        let (land, flight) = watch::channel(None);
        flights.insert(id.clone(), flight.clone());
        (flight, Some(land))
    }

    /// A load is done: nobody joins it from now on.
    pub(super) fn end(&self, id: &Id, land: &Land, landed: Landed) {
        let flight = land.subscribe();
        {
            let mut flights = self.0.lock();
            // Where the key was forgotten meanwhile, it is another's.
            if flights
                .get(id)
                .is_some_and(|there| there.same_channel(&flight))
            {
                flights.remove(id);
            }
        }
        land.send_replace(Some(landed));
    }

    /// Who comes from now on does not join who looks for this key.
    pub(super) fn forget(&self, id: &Id) {
        self.0.lock().remove(id);
    }

    /// The same of all keys of a namespace that begin with `prefix`.
    pub(super) fn forget_under(&self, of: (&Tenant, &Namespace), prefix: &str) {
        self.0.lock().retain(|id, _| !is_under(id, of, prefix));
    }
}

/// What a load comes to.
pub(super) async fn landed(mut flight: Flight) -> Landed {
    let landed = flight.wait_for(Option::is_some).await;
    let landed = landed.ok().and_then(|landed| landed.clone());
    // Whoever loaded it has gone.
    landed.unwrap_or(Landed::Again)
}
