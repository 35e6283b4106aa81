//! The RPCs of the Flight service, by path.

/// One RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are Flight's own names")]
pub enum Verb {
    Handshake,
    ListFlights,
    GetFlightInfo,
    PollFlightInfo,
    GetSchema,
    DoGet,
    DoPut,
    DoExchange,
    DoAction,
    ListActions,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Verb; 10] = [
        Verb::Handshake,
        Verb::ListFlights,
        Verb::GetFlightInfo,
        Verb::PollFlightInfo,
        Verb::GetSchema,
        Verb::DoGet,
        Verb::DoPut,
        Verb::DoExchange,
        Verb::DoAction,
        Verb::ListActions,
    ];

    /// The verb a request's path names.
    pub fn of_path(path: &str) -> Option<Verb> {
        let name = path.strip_prefix("/arrow.flight.protocol.FlightService/")?;
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }

    /// Flight's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Handshake => "Handshake",
            Verb::ListFlights => "ListFlights",
            Verb::GetFlightInfo => "GetFlightInfo",
            Verb::PollFlightInfo => "PollFlightInfo",
            Verb::GetSchema => "GetSchema",
            Verb::DoGet => "DoGet",
            Verb::DoPut => "DoPut",
            Verb::DoExchange => "DoExchange",
            Verb::DoAction => "DoAction",
            Verb::ListActions => "ListActions",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_verbs() {
        for verb in Verb::ALL {
            let path = format!("/arrow.flight.protocol.FlightService/{}", verb.name());
            assert_eq!(Verb::of_path(&path), Some(verb));
        }
        assert_eq!(Verb::of_path("/arrow.flight.protocol.FlightService/"), None);
        assert_eq!(Verb::of_path("/other.Service/DoGet"), None);
    }
}
