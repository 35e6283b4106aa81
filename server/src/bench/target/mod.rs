//! What is asked: a file a protocol.

mod flight;
mod mux;
mod redis;

use bowstring_wire::error::Result;

use super::settings::{Endpoint, Settings, Via};
use flight::Flight;
use mux::MuxStream;
use redis::Redis;

/// One connection to what is measured.
pub trait Target: Send {
    /// Puts one tensor, or replaces it.
    ///
    /// # Errors
    /// What was said; the connection may live on ([`Target::is_open`]).
    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<()>;

    /// Asks for what the next [`Target::get`] gets, as far as that can be done without waiting for a reply.
    ///
    /// # Errors
    /// Where the connection failed.
    fn begin(&mut self, _keys: &[String]) -> Result<()> {
        Ok(())
    }

    /// Gets these keys, all under way together; tells `each` of every one, in any order, its bytes or what was said of it, `not_found`
    /// where it is not there.
    ///
    /// # Errors
    /// Where the connection failed: then not every key was told of.
    fn get(&mut self, keys: &[String], each: &mut dyn FnMut(usize, Result<&[u8]>)) -> Result<()>;

    /// Whether it can be asked again.
    fn is_open(&self) -> bool;
}

/// Connects.
///
/// # Errors
/// `unavailable` where nobody listens.
pub fn connect(settings: &Settings) -> Result<Box<dyn Target>> {
    let namespace = &settings.namespace;
    Ok(match (&settings.endpoint, settings.via()) {
        (Endpoint::Redis(host), _) => Box::new(Redis::connect(host, namespace)?),
        (Endpoint::Bowstring(address), Via::Mux) => {
            Box::new(MuxStream::connect(address, namespace)?)
        }
        (Endpoint::Bowstring(address), Via::Flight) => {
            Box::new(Flight::connect(address, namespace)?)
        }
    })
}
