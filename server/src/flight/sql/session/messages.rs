//! The messages of Flight's session actions, which arrow-flight does not have. Numbers and names are those of `Flight.proto`.

use std::collections::HashMap;

/// A value of an option; nothing in it takes the option back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    pub value: Option<Value>,
}

/// What it may be.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

/// `SetSessionOptionsRequest`, and `GetSessionOptionsResult`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Options {
    #[prost(map = "string, message", tag = "1")]
    pub options: HashMap<String, OptionValue>,
}

/// `SetSessionOptionsResult`: those that were not set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetResult {
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, SetError>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct SetError {
    #[prost(enumeration = "Why", tag = "1")]
    pub value: i32,
}

/// Why an option was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Why {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

/// `CloseSessionResult`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CloseResult {
    #[prost(enumeration = "Closed", tag = "1")]
    pub status: i32,
}

/// How a session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Closed {
    Unspecified = 0,
    Done = 1,
    Closing = 2,
    NotCloseable = 3,
}
