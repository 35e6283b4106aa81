//! gRPC reflection: what this server's services and messages look like, for tools such as `grpcurl`.
//!
//! Flight's description is written down here as a table: the generated code has no descriptors, and its
//! numbers never change.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, OneofDescriptorProto,
    ServiceDescriptorProto,
};

use Kind::{Bool, Bytes, Double, Enum, I32, I64, Message, Text, U64};

const FLIGHT: &str = "arrow.flight.protocol";
const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// The type of a field.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Bytes,
    Double,
    I32,
    I64,
    U64,
    Text,
    /// Of Flight, or with its package's name.
    Message(&'static str),
    Enum(&'static str),
}

/// Name, number, type, and whether it is repeated.
type Field = (&'static str, i32, Kind, bool);

/// The messages of Flight.
const MESSAGES: [(&str, &[Field]); 16] = [
    ("HandshakeRequest", &HANDSHAKE),
    ("HandshakeResponse", &HANDSHAKE),
    ("Empty", &[]),
    (
        "ActionType",
        &[("type", 1, Text, false), ("description", 2, Text, false)],
    ),
    ("Criteria", &[("expression", 1, Bytes, false)]),
    (
        "Action",
        &[("type", 1, Text, false), ("body", 2, Bytes, false)],
    ),
    ("Result", &[("body", 1, Bytes, false)]),
    ("SchemaResult", &[("schema", 1, Bytes, false)]),
    (
        "FlightDescriptor",
        &[
            ("type", 1, Enum("FlightDescriptor.DescriptorType"), false),
            ("cmd", 2, Bytes, false),
            ("path", 3, Text, true),
        ],
    ),
    (
        "FlightInfo",
        &[
            ("schema", 1, Bytes, false),
            ("flight_descriptor", 2, Message("FlightDescriptor"), false),
            ("endpoint", 3, Message("FlightEndpoint"), true),
            ("total_records", 4, I64, false),
            ("total_bytes", 5, I64, false),
            ("ordered", 6, Bool, false),
            ("app_metadata", 7, Bytes, false),
        ],
    ),
    (
        "PollInfo",
        &[
            ("info", 1, Message("FlightInfo"), false),
            ("flight_descriptor", 2, Message("FlightDescriptor"), false),
            ("progress", 3, Double, false),
            ("expiration_time", 4, Message(TIMESTAMP), false),
        ],
    ),
    (
        "FlightEndpoint",
        &[
            ("ticket", 1, Message("Ticket"), false),
            ("location", 2, Message("Location"), true),
            ("expiration_time", 3, Message(TIMESTAMP), false),
            ("app_metadata", 4, Bytes, false),
        ],
    ),
    ("Location", &[("uri", 1, Text, false)]),
    ("Ticket", &[("ticket", 1, Bytes, false)]),
    (
        "FlightData",
        &[
            ("flight_descriptor", 1, Message("FlightDescriptor"), false),
            ("data_header", 2, Bytes, false),
            ("app_metadata", 3, Bytes, false),
            ("data_body", 1000, Bytes, false),
        ],
    ),
    ("PutResult", &[("app_metadata", 1, Bytes, false)]),
];

const HANDSHAKE: [Field; 2] = [
    ("protocol_version", 1, U64, false),
    ("payload", 2, Bytes, false),
];

/// Method, request, response, and which of the two is a stream.
const METHODS: [(&str, &str, &str, bool, bool); 10] = [
    (
        "Handshake",
        "HandshakeRequest",
        "HandshakeResponse",
        true,
        true,
    ),
    ("ListFlights", "Criteria", "FlightInfo", false, true),
    (
        "GetFlightInfo",
        "FlightDescriptor",
        "FlightInfo",
        false,
        false,
    ),
    (
        "PollFlightInfo",
        "FlightDescriptor",
        "PollInfo",
        false,
        false,
    ),
    (
        "GetSchema",
        "FlightDescriptor",
        "SchemaResult",
        false,
        false,
    ),
    ("DoGet", "Ticket", "FlightData", false, true),
    ("DoPut", "FlightData", "PutResult", true, true),
    ("DoExchange", "FlightData", "FlightData", true, true),
    ("DoAction", "Action", "Result", false, true),
    ("ListActions", "Empty", "ActionType", false, true),
];

/// Flight's files, and those of health; the reflection service knows its own.
pub fn files() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_file_descriptor_set(FileDescriptorSet {
            file: vec![timestamp(), flight()],
        })
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn timestamp() -> FileDescriptorProto {
    let fields = [("seconds", 1, I64, false), ("nanos", 2, I32, false)];
    FileDescriptorProto {
        name: Some("google/protobuf/timestamp.proto".to_owned()),
        package: Some("google.protobuf".to_owned()),
        message_type: vec![message("Timestamp", &fields)],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn flight() -> FileDescriptorProto {
    let messages = MESSAGES.iter().map(|(name, fields)| message(name, fields));
    let method = |(name, input, output, client, server): &(&str, &str, &str, bool, bool)| {
        MethodDescriptorProto {
            name: Some((*name).to_owned()),
            input_type: Some(type_name(input)),
            output_type: Some(type_name(output)),
            client_streaming: Some(*client),
            server_streaming: Some(*server),
            ..MethodDescriptorProto::default()
        }
    };
    FileDescriptorProto {
        name: Some("Flight.proto".to_owned()),
        package: Some(FLIGHT.to_owned()),
        dependency: vec!["google/protobuf/timestamp.proto".to_owned()],
        message_type: messages.collect(),
        service: vec![ServiceDescriptorProto {
            name: Some("FlightService".to_owned()),
            method: METHODS.iter().map(method).collect(),
            ..ServiceDescriptorProto::default()
        }],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn message(name: &str, fields: &[Field]) -> DescriptorProto {
    let mut message = DescriptorProto {
        name: Some(name.to_owned()),
        field: fields.iter().map(field).collect(),
        ..DescriptorProto::default()
    };
    if name == "FlightDescriptor" {
        let value = |(number, name): (i32, &str)| EnumValueDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            ..EnumValueDescriptorProto::default()
        };
        message.enum_type.push(EnumDescriptorProto {
            name: Some("DescriptorType".to_owned()),
            value: [(0, "UNKNOWN"), (1, "PATH"), (2, "CMD")].map(value).into(),
            ..EnumDescriptorProto::default()
        });
    }
    // The one field that may be absent is, in proto3, alone in a choice of its own.
    if let Some(progress) = message
        .field
        .iter_mut()
        .find(|field| field.name() == "progress")
    {
        (progress.proto3_optional, progress.oneof_index) = (Some(true), Some(0));
        message.oneof_decl.push(OneofDescriptorProto {
            name: Some("_progress".to_owned()),
            ..OneofDescriptorProto::default()
        });
    }
    message
}

fn field((name, number, kind, repeated): &Field) -> FieldDescriptorProto {
    let (of, named) = match kind {
        Bool => (Type::Bool, None),
        Bytes => (Type::Bytes, None),
        Double => (Type::Double, None),
        I32 => (Type::Int32, None),
        I64 => (Type::Int64, None),
        U64 => (Type::Uint64, None),
        Text => (Type::String, None),
        Message(name) => (Type::Message, Some(type_name(name))),
        Enum(name) => (Type::Enum, Some(type_name(name))),
    };
    let label = if *repeated {
        Label::Repeated
    } else {
        Label::Optional
    };
    FieldDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(*number),
        label: Some(label.into()),
        r#type: Some(of.into()),
        type_name: named,
        ..FieldDescriptorProto::default()
    }
}

fn type_name(name: &str) -> String {
    if name.starts_with("google.") {
        format!(".{name}")
    } else {
        format!(".{FLIGHT}.{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::verb::Verb;

    #[test]
    fn every_verb_is_described_and_every_type_is_there() {
        let file = flight();
        let described: Vec<_> = file.service[0].method.iter().map(|m| m.name()).collect();
        assert_eq!(described, Verb::ALL.map(Verb::name));
        let known: Vec<String> = MESSAGES.iter().map(|(name, _)| type_name(name)).collect();
        for message in &file.message_type {
            for field in &message.field {
                let of = field.type_name();
                let elsewhere = of.is_empty() || of.contains("google") || of.contains("Type");
                assert!(elsewhere || known.iter().any(|name| name == of), "{of}");
            }
        }
        assert!(files().build_v1().is_ok());
    }
}
