//! What a request asks of the cache.

use std::borrow::Borrow;
use std::ops::Range;

use bowstring_cache::known::Known;
use bowstring_cache::lower::Description;
use bowstring_cache::read::Entry;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::mux::{MuxOp, MuxRequest, MuxTensor};
use bowstring_wire::name::{Key, Namespace, Tenant};
use bowstring_wire::version::Version;

use super::below::Wanted;
use super::put::Receiving;
use crate::flight::authorize::{Operation, Principal, Resource, authorize};
use crate::flight::select::{id, not_found};
use crate::flight::service::Service;
use crate::flight::source::Ready;

/// What became of a request.
pub enum Asked {
    /// An entry's description and, for a get, which of its bytes are sent.
    Entry(MuxTensor, Option<(Ready, Range<u64>)>),
    /// A get of what memory has not.
    Below(Wanted),
    /// A put, whose body comes next.
    Put(Box<Receiving>),
    /// A cancel of what has ended: there is nothing to say.
    Nothing,
}

/// Reads requests and asks the cache.
pub struct Requests<'a> {
    service: &'a Service,
    principal: &'a Principal,
    /// Of requests that name none.
    namespace: Namespace,
    /// The last that was named: it is most often the next one too.
    named: Namespace,
}

/// Whether it is a cancel.
pub fn is_cancel(header: &[u8]) -> bool {
    MuxRequest::decode(header).is_ok_and(|request| request.op == MuxOp::Cancel)
}

impl<'a> Requests<'a> {
    /// Requests of `principal`.
    pub fn new(service: &'a Service, principal: &'a Principal, namespace: Namespace) -> Self {
        Self {
            service,
            principal,
            named: namespace.clone(),
            namespace,
        }
    }

    /// Whose they are, and the namespace of those that name none.
    pub fn of(&self) -> (&Tenant, &Namespace) {
        (&self.principal.tenant, &self.namespace)
    }

    /// Has what requests with these headers look up fetched from memory, for all of them together.
    pub fn look_ahead<'h>(&self, headers: impl Iterator<Item = &'h [u8]>) {
        let keys = headers.filter_map(|header| {
            let request = MuxRequest::decode(header).ok()?;
            let namespace = match request.namespace {
                None => &self.namespace,
                Some(name) if self.named.as_str() == name => &self.named,
                Some(_) => return None,
            };
            Some((namespace, request.key))
        });
        self.service.cache.look_ahead(&self.principal.tenant, keys);
    }

    /// Asks for what a message with this header and so many bytes of body wants.
    ///
    /// # Errors
    /// The request's own; the stream goes on.
    pub async fn answer(&mut self, number: u32, header: &[u8], body: u64) -> Result<Asked> {
        let request = MuxRequest::decode(header)?;
        if body > 0 && !matches!(request.op, MuxOp::Put(_)) {
            return Err(Error::invalid(format!(
                "only a put has a tensor behind it; op=`{}` bytes=`{body}`",
                request.op.name()
            )));
        }
        if request.op == MuxOp::Cancel {
            return Ok(Asked::Nothing);
        }
        let key = Key::parse(request.key)?;
        let namespace = self.namespace_of(request.namespace)?;
        let resource = Resource::Key(&namespace, &key);
        let operation = match request.op {
            MuxOp::Get { .. } => Operation::Get,
            MuxOp::Put(_) => Operation::Put,
            MuxOp::Exists | MuxOp::Cancel => Operation::Describe,
        };
        authorize(self.principal, operation, resource)?;
        let id = id(self.principal, &namespace, &key);
        match request.op {
            MuxOp::Put(put) => Receiving::begin(self.service, number, id, put, body)
                .await
                .map(|put| Asked::Put(Box::new(put))),
            MuxOp::Get {
                rows,
                unless_version,
            } => {
                let wanted = Wanted {
                    number,
                    id,
                    rows,
                    unless_version,
                };
                let cache = &self.service.cache;
                match cache.get(&wanted.id) {
                    Some(entry) => {
                        let (tensor, content) = wanted.here(entry)?;
                        Ok(Asked::Entry(tensor, Some(content)))
                    }
                    None if cache.may_be_below(&wanted.id) => Ok(Asked::Below(wanted)),
                    None => Err(not_found(&wanted.id.namespace, &wanted.id.key)),
                }
            }
            MuxOp::Exists | MuxOp::Cancel => {
                let known = Known::find(&self.service.cache, &id).await?;
                let known = known.ok_or_else(|| not_found(&id.namespace, &id.key))?;
                Ok(Asked::Entry(describe(&known), None))
            }
        }
    }

    fn namespace_of(&mut self, named: Option<&str>) -> Result<Namespace> {
        match named {
            None => Ok(self.namespace.clone()),
            Some(name) => {
                if self.named.as_str() != name {
                    self.named = Namespace::parse(name)?;
                }
                Ok(self.named.clone())
            }
        }
    }
}

/// What a reply says of an entry.
pub fn describe(known: &Known<impl Borrow<Entry>, impl Borrow<Description>>) -> MuxTensor {
    let (dtype, shape) = known.description();
    MuxTensor {
        dtype,
        shape,
        version: known.version(),
        checksum: known.checksum(),
    }
}

/// The refusal of a get of what the client has.
pub fn not_modified(version: Version) -> Error {
    Error::new(
        Code::NotModified,
        format!("the entry still has the version that you have; version=`{version}`"),
    )
}
