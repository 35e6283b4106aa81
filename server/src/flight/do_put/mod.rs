//! DoPut: the first message decides, then the bodies go straight to where the tensors will live.
//!
//! - `messages`: the stream, message by message
//! - `single`: one tensor
//! - `values`: from a column's values to the bytes of a tensor
//! - `bulk`: a tensor a row
//! - `progress`: what was done so far, for who asks

pub mod bulk;
mod messages;
mod progress;
mod single;
mod values;

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::{FlightDescriptor, PutResult};
use bowstring_cache::put::Mode;
use bowstring_wire::descriptor::{self, PutCommand, Wait};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::flight_data::Event;
use bowstring_wire::name::Key;
use bowstring_wire::put_result::PutReply;
use bowstring_wire::put_schema::PutSchema;
use bytes::Bytes;

use super::authorize::{Operation, Principal, Resource, authorize};
use super::out::Failure;
use super::service::{Call, Service};
use super::slow::About;
use super::{get_flight_info, reply, request, sql};
use crate::conn::ConnHandle;
use crate::grpc::Responder;
#[cfg(feature = "sql")]
pub use bulk::{Batch, Incoming, Received};
pub use messages::Messages;
use progress::Progress;

/// Answers one DoPut.
pub async fn run(
    service: &Service,
    call: Call<'_>,
    respond: &mut Responder,
) -> Result<(), Failure> {
    let Call {
        principal,
        cookie,
        deadline,
        body,
        room,
        conn,
        counted,
        notes,
        ..
    } = call;
    let mut messages = Messages::new(service, body, room, (counted, notes));
    let (command, schema) = match opening(&mut messages).await? {
        Opening::Tensors(command, schema) => (*command, schema),
        Opening::Sql(command) => {
            let caller = Caller {
                principal: &principal,
                cookie: &cookie,
                conn: &conn,
                deadline,
            };
            return sql::put(service, caller, &command, &mut messages, respond).await;
        }
    };
    notes.about(|| {
        let key = command.key.as_ref().map_or("many", Key::as_str);
        About::new(command.namespace.as_str(), key)
    });
    let resource = match &command.key {
        Some(key) => Resource::Key(&command.namespace, key),
        None => Resource::Namespace(&command.namespace),
    };
    authorize(&principal, Operation::Put, resource)?;
    let reply = match PutSchema::parse(&schema)? {
        PutSchema::Single(schema) => {
            let call = (&principal, &conn, Progress::new(respond, command.progress));
            single::receive(service, call, command, &schema, &mut messages).await?
        }
        PutSchema::Bulk(schema) => {
            let newcomer = service.turns.enter(deadline)?;
            let progress = Progress::new(respond, command.progress);
            let call = (&principal, &conn, newcomer, progress);
            bulk::receive(service, call, command, schema, &mut messages).await?
        }
    };
    send_reply(respond, &reply).await
}

/// Who puts.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "sql"), expect(dead_code, reason = "read by Flight SQL"))]
pub struct Caller<'a> {
    pub principal: &'a Principal,
    pub cookie: &'a sql::Cookie,
    pub conn: &'a Arc<ConnHandle>,
    /// As [`Call::deadline`].
    pub deadline: Option<Duration>,
}

/// Stores the rows that follow a schema which has come, as a put of many does.
#[cfg(feature = "sql")]
pub async fn rows(
    service: &Service,
    caller: Caller<'_>,
    command: PutCommand,
    schema: &[u8],
    messages: &mut Messages<'_>,
) -> Result<PutReply> {
    let PutSchema::Bulk(schema) = PutSchema::parse(schema)? else {
        return Err(Error::invalid(
            "the rows have one column; expected a key and a tensor",
        ));
    };
    let newcomer = service.turns.enter(caller.deadline)?;
    let call = (caller.principal, caller.conn, newcomer, Progress::none());
    bulk::receive(service, call, command, schema, messages).await
}

async fn send_reply(respond: &mut Responder, reply: &PutReply) -> Result<(), Failure> {
    reply::send(respond, &result_of(reply)).await
}

fn result_of(reply: &PutReply) -> PutResult {
    PutResult {
        app_metadata: reply.to_json().into(),
    }
}

/// How a put begins.
enum Opening {
    /// The descriptor and the schema: all that is needed to refuse a put before its body is read.
    Tensors(Box<PutCommand>, Bytes),
    /// A command of Flight SQL, which may have nothing behind it.
    Sql(Bytes),
}

async fn opening(messages: &mut Messages<'_>) -> Result<Opening> {
    let mut command = None;
    loop {
        let Some(event) = messages.next().await? else {
            return Err(Error::invalid(
                "the put ended before its schema; expected a descriptor and a schema first",
            ));
        };
        match event {
            Event::Descriptor(bytes) => {
                let descriptor = request::descriptor(bytes)?;
                if get_flight_info::is_sql(&descriptor) {
                    return Ok(Opening::Sql(descriptor.cmd));
                }
                command = Some(command_of(&descriptor)?);
            }
            Event::Header(schema) => {
                let command = command.ok_or_else(|| {
                    Error::invalid("the put has no descriptor; expected one in its first message")
                })?;
                return Ok(Opening::Tensors(Box::new(command), schema));
            }
            Event::BodyStart { .. } | Event::BodyChunk(_) => {
                return Err(Error::invalid(
                    "the put begins with a body; expected a schema first",
                ));
            }
            Event::AppMetadata(_) | Event::MessageEnd => {}
        }
    }
}

fn command_of(descriptor: &FlightDescriptor) -> Result<PutCommand> {
    match descriptor.r#type() {
        DescriptorType::Path => PutCommand::from_path(&descriptor.path),
        DescriptorType::Cmd => PutCommand::parse_cmd(&descriptor.cmd),
        DescriptorType::Unknown => Err(Error::invalid(
            "the descriptor has no type; expected PATH [key], PATH [namespace, key], or CMD",
        )),
    }
}

/// Whether a put is answered once the cold tier has what it brings.
fn waits_below(command: &PutCommand) -> bool {
    command.wait == Some(Wait::Cold)
}

/// Members that go with one tensor, or with many, only.
fn refuse_given(given: &[(&str, bool)], with: &str) -> Result<()> {
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((member, _)) => Err(Error::invalid(format!(
            "a member of the put command goes with {with} only; member=`{member}`"
        ))),
    }
}

/// The number of the load that a put belongs to; 0 where it belongs to none.
fn load_of(service: &Service, principal: &Principal, command: &PutCommand) -> Result<u32> {
    match &command.load_id {
        None => Ok(0),
        Some(id) => service
            .cache
            .load(&principal.tenant, &command.namespace, id),
    }
}

fn mode_of(mode: Option<descriptor::Mode>, default: Mode) -> Mode {
    match mode {
        None => default,
        Some(descriptor::Mode::Create) => Mode::Create,
        Some(descriptor::Mode::Keep) => Mode::Keep,
        Some(descriptor::Mode::Replace) => Mode::Replace,
    }
}
