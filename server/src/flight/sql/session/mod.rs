//! Sessions: what a client has set for its queries. A cookie names one, as Arrow's own servers do it; who sends none back
//! has no session, and what it sets is lost.
//!
//! - `options`: what can be set; `messages`: the protobuf messages

mod messages;
mod options;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::Result as ActionResult;
use bowstring_cache::Cache;
use bowstring_cache::ledger::{Account, Charge};
use bowstring_sql::Scope;
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::Tenant;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use prost::Message;

use self::messages::{CloseResult, Closed, Options, SetError, SetResult};
use super::sql;
use super::ticket::Numbers;
use crate::flight::authorize::Principal;
use crate::flight::out::Failure;
use crate::flight::reply;
use crate::flight::service::Service;
use crate::grpc::Responder;

/// As in Arrow's servers of C++ and Java.
const COOKIE: &str = "arrow_flight_session_id";
/// Sessions at once.
const SESSIONS_MAX: usize = 10_000;
/// For how long one is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(3600);
/// What one takes.
const SESSION_BYTES: u64 = 256;
/// Options that are set at once: there are four.
const OPTIONS_MAX: usize = 100;

/// The session that a call names: the value of its cookie, if it has any.
#[derive(Clone, Debug, Default)]
pub struct Cookie(Option<String>);

impl Cookie {
    /// Reads the headers of a call.
    pub fn of(headers: &HeaderMap) -> Self {
        let all = headers.get_all("cookie").iter();
        let all = all.filter_map(|header| header.to_str().ok());
        let mut pairs = all.flat_map(|header| header.split(';'));
        let value = pairs.find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE && !value.is_empty()).then(|| value.trim_matches('"').to_owned())
        });
        Self(value)
    }

    fn number(&self) -> Option<u128> {
        let value = self.0.as_ref()?;
        u128::from_str_radix(value, 16).ok()
    }
}

/// All of them.
pub struct Sessions {
    cache: Cache,
    numbers: Arc<Numbers>,
    open: Mutex<HashMap<u128, Session>>,
}

struct Session {
    tenant: Tenant,
    scope: Scope,
    /// On the monotonic clock.
    used_at: Duration,
    _room: Charge,
}

impl Sessions {
    /// None yet. What they take is charged to the ledger of `cache`.
    pub fn new(cache: Cache, numbers: Arc<Numbers>) -> Self {
        Self {
            cache,
            numbers,
            open: Mutex::default(),
        }
    }

    /// What the session of a call has set; nothing, where it names none.
    ///
    /// # Errors
    /// `not_found` where the session that it names is no more.
    pub fn scope(&self, principal: &Principal, cookie: &Cookie) -> Result<Scope> {
        if cookie.0.is_none() {
            return Ok(Scope::default());
        }
        let scope = self.with(principal, cookie, |scope| scope.clone());
        scope.ok_or_else(|| {
            Error::not_found(
                "no such session: it was closed, or not used for an hour, or the server was started anew; set its options \
                 again, or connect again",
            )
        })
    }

    fn with<T>(
        &self,
        principal: &Principal,
        cookie: &Cookie,
        of: impl FnOnce(&mut Scope) -> T,
    ) -> Option<T> {
        let now = self.cache.clock().monotonic();
        let mut open = self.open.lock();
        let session = open.get_mut(&cookie.number()?)?;
        if session.tenant != principal.tenant || session.used_at + IDLE <= now {
            return None;
        }
        session.used_at = now;
        Some(of(&mut session.scope))
    }

    /// A new session; gives what names it.
    fn open(&self, principal: &Principal) -> Result<Cookie> {
        let room = self
            .cache
            .charge(Account::Sql, SESSION_BYTES)
            .ok_or_else(|| {
                Error::exhausted(format!(
                    "no memory for another session; limit=`memory` wanted_bytes=`{SESSION_BYTES}`"
                ))
            })?;
        let now = self.cache.clock().monotonic();
        let mut open = self.open.lock();
        open.retain(|_, session| session.used_at + IDLE > now);
        if open.len() >= SESSIONS_MAX {
            return Err(Error::exhausted(format!(
                "too many sessions are open; close those that are done with; limit=`sessions_max` value=`{SESSIONS_MAX}`"
            )));
        }
        let number = self.numbers.next();
        let session = Session {
            tenant: principal.tenant.clone(),
            scope: Scope::default(),
            used_at: now,
            _room: room,
        };
        open.insert(number, session);
        Ok(Cookie(Some(format!("{number:032x}"))))
    }

    fn close(&self, principal: &Principal, cookie: &Cookie) {
        let mut open = self.open.lock();
        if let Some(number) = cookie.number()
            && let Some(session) = open.get(&number)
            && session.tenant == principal.tenant
        {
            open.remove(&number);
        }
    }
}

/// Answers SetSessionOptions: sets what can be set, and names what cannot. A call without a session begins one.
pub async fn set(
    service: &Service,
    (principal, cookie): (&Principal, &Cookie),
    body: &[u8],
    respond: &mut Responder,
) -> Result<(), Failure> {
    let request = message::<Options>(body, "SetSessionOptionsRequest")?;
    let (sessions, limits) = (&service.asking.sessions, sql(service)?.limits());
    if request.options.len() > OPTIONS_MAX {
        return Err(Failure::Refused(Error::exhausted(format!(
            "too many options are set at once; got=`{}` limit=`{OPTIONS_MAX}`",
            request.options.len()
        ))));
    }
    let mut errors = HashMap::new();
    let mut all = |scope: &mut Scope| {
        for (name, value) in &request.options {
            let value = value.value.as_ref();
            if let Err(why) = options::set(scope, limits, (name, value)) {
                errors.insert(name.clone(), SetError { value: why.into() });
            }
        }
    };
    if sessions.with(principal, cookie, &mut all).is_none() {
        let cookie = sessions.open(principal)?;
        sessions.with(principal, &cookie, all);
        respond.cookie(&named(&cookie, "")?);
    }
    answer(respond, &SetResult { errors }).await
}

/// Answers GetSessionOptions: every option, with what holds where it was not set.
pub async fn get(
    service: &Service,
    (principal, cookie): (&Principal, &Cookie),
    respond: &mut Responder,
) -> Result<(), Failure> {
    let scope = service.asking.sessions.scope(principal, cookie)?;
    answer(respond, &options::all(&scope, sql(service)?.limits())).await
}

/// Answers CloseSession. One that is no more is closed.
pub async fn close(
    service: &Service,
    (principal, cookie): (&Principal, &Cookie),
    respond: &mut Responder,
) -> Result<(), Failure> {
    service.asking.sessions.close(principal, cookie);
    if cookie.0.is_some() {
        respond.cookie(&named(&Cookie::default(), "; Max-Age=0")?);
    }
    let status = Closed::Done.into();
    answer(respond, &CloseResult { status }).await
}

fn named(cookie: &Cookie, more: &str) -> Result<HeaderValue> {
    let value = cookie.0.as_deref().unwrap_or_default();
    let header = HeaderValue::try_from(format!("{COOKIE}={value}{more}"));
    header.map_err(|error| Error::internal(format!("a cookie cannot be set; {error}")))
}

fn message<M: Message + Default>(body: &[u8], what: &str) -> Result<M> {
    M::decode(body).map_err(|_| {
        Error::invalid(format!(
            "the action's body is not what it should be; expected=`{what}`"
        ))
    })
}

async fn answer(respond: &mut Responder, message: &impl Message) -> Result<(), Failure> {
    let body = message.encode_to_vec().into();
    reply::send(respond, &ActionResult { body }).await
}

#[cfg(test)]
mod tests {
    use bowstring_cache::CacheConfig;
    use bowstring_cache::clock::ManualClock;
    use bowstring_wire::error::Code;

    use super::*;

    fn of(tenant: &str) -> Principal {
        Principal {
            tenant: Tenant::parse(tenant).unwrap(),
        }
    }

    fn sessions() -> (Sessions, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(1));
        let cache = Cache::new(CacheConfig::default(), Arc::clone(&clock) as _).unwrap();
        (Sessions::new(cache, Arc::default()), clock)
    }

    #[test]
    fn a_session_is_its_tenants_until_it_is_closed_or_idle() {
        let (sessions, clock) = sessions();
        let (ours, theirs) = (of("ours"), of("theirs"));
        let cookie = sessions.open(&ours).unwrap();
        let ns = |scope: &mut Scope| scope.set_schema(Some("ns"));
        assert!(sessions.with(&theirs, &cookie, ns).is_none());
        assert!(sessions.with(&ours, &cookie, ns).is_some());
        sessions.close(&theirs, &cookie);
        clock.advance(IDLE / 2);
        assert_eq!(sessions.scope(&ours, &cookie).unwrap().schema(), "ns");
        let other = sessions.open(&ours).unwrap();
        assert_eq!(sessions.scope(&ours, &other).unwrap().schema(), "cache");
        let none = Cookie::default();
        assert_eq!(sessions.scope(&ours, &none).unwrap().schema(), "cache");
        clock.advance(IDLE / 2);
        assert!(sessions.scope(&ours, &cookie).is_ok(), "it was used");
        sessions.close(&ours, &cookie);
        clock.advance(IDLE);
        for gone in [
            &cookie,
            &other,
            &Cookie(Some("7".to_owned())),
            &Cookie(Some("x".to_owned())),
        ] {
            let error = sessions.scope(&ours, gone).unwrap_err();
            assert_eq!(error.code, Code::NotFound, "{gone:?}");
        }
    }

    #[test]
    fn sessions_are_bounded_and_those_that_are_idle_make_room() {
        let (sessions, clock) = sessions();
        let ours = of("ours");
        for _ in 0..SESSIONS_MAX {
            sessions.open(&ours).unwrap();
        }
        let error = sessions.open(&ours).unwrap_err();
        assert_eq!(error.code, Code::ResourceExhausted, "{error}");
        clock.advance(IDLE);
        assert!(sessions.open(&ours).is_ok());
        assert_eq!(sessions.open.lock().len(), 1);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        for (header, expected) in [
            ("arrow_flight_session_id=2a", Some(42)),
            ("a=b; arrow_flight_session_id=2a;c=d", Some(42)),
            ("arrow_flight_session_id=\"2a\"", Some(42)),
            ("arrow_flight_session_id=", None),
            ("session=2a", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("cookie", header.parse().unwrap());
            assert_eq!(Cookie::of(&headers).number(), expected, "{header}");
        }
    }
}
