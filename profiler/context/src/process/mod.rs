//! The process context of OTEP 4719: what holds for a whole process, published in a mapping named `OTEL_CTX`.
//!
//! | offset | type | header field |
//! |---|---|---|
//! | 0 | 8 bytes | signature `OTEL_CTX` |
//! | 8 | `u32` | version, 2 |
//! | 12 | `u32` | payload size |
//! | 16 | `u64` | time of publication, ns of `CLOCK_BOOTTIME`; 0 while it is changed, new with every change |
//! | 24 | `u64` | payload's address in the publisher |
//!
//! The payload is a protobuf message `ProcessContext { resource = 1; attributes = 2 }`, encoded and decoded by hand
//! (`wire`): five small messages are no reason for a protobuf library in every service.
//!
//! Beside the standard's `threadlocal.*` attributes we publish where a thread's slot lies, measured at run time, so
//! that a reader needs neither the symbol nor the program's file.

mod across_forks;
mod publish;
mod read;
mod wire;

use crate::attributes::{KEYS, KeyMap};

pub use publish::{PublishError, own_id, publish, publish_across_forks, random_id, withdraw};
pub use read::{Found, ReadError, read};
pub use wire::decode;

/// First bytes of the header.
pub const SIGNATURE: [u8; 8] = *b"OTEL_CTX";
/// The header's version.
pub const VERSION: u32 = 2;
/// Size of the header.
pub const HEADER_SIZE: usize = 32;
/// The largest payload that readers accept.
pub const MAXIMUM_PAYLOAD_SIZE: usize = 65_536;

/// Attribute (string): the thread records' schema.
pub const SCHEMA_ATTRIBUTE: &str = "threadlocal.schema_version";
/// Attribute (array of strings): the key map of the thread records' attributes.
pub const KEY_MAP_ATTRIBUTE: &str = "threadlocal.attribute_key_map";
/// Our attribute (integer): the slot's distance from the thread pointer in bytes, the same on all threads.
pub const OFFSET_ATTRIBUTE: &str = "spanprof.threadlocal.offset";
/// Our attribute (integer): the TLS module whose per-thread block holds the slot, where no offset is the same on all
/// threads.
pub const MODULE_ATTRIBUTE: &str = "spanprof.threadlocal.module";
/// Our attribute (integer): the slot's offset in that module's block.
pub const MODULE_OFFSET_ATTRIBUTE: &str = "spanprof.threadlocal.module_offset";
/// Our attribute (boolean): 8 bytes after the slot lies a `u64` that changes with every change of the record.
pub const SEQUENCE_ATTRIBUTE: &str = "spanprof.threadlocal.sequence";

/// Schemas that denote the record of [`crate::record`].
pub const THREAD_RECORD_SCHEMAS: [&str; 2] = [WRITTEN_SCHEMA, "tls_v1"];
/// The schema that we write. The standard foresees `tls_v1` after its adoption; but every reader and writer released
/// so far knows `tlsdesc_v1_dev`, and to be read is the purpose.
pub const WRITTEN_SCHEMA: &str = "tlsdesc_v1_dev";

/// An attribute's value, as in OpenTelemetry's `AnyValue`.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Value {
    /// Text.
    String(String),
    /// Truth.
    Boolean(bool),
    /// A signed integer.
    Integer(i64),
    /// A floating-point number.
    Double(f64),
    /// A list.
    Array(Vec<Value>),
    /// A list of named values.
    Map(Vec<(String, Value)>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A value that is absent or of a kind unknown here.
    Empty,
}

impl Value {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// What a process says of itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ProcessContext {
    /// The resource's attributes: `service.name`, `service.instance.id`, …
    pub resource: Vec<(String, Value)>,
    /// Attributes beside the resource: the `threadlocal.*` family and what vendors add.
    pub attributes: Vec<(String, Value)>,
}

impl ProcessContext {
    /// A context for a service.
    pub fn for_service(name: &str) -> Self {
        Self { resource: vec![("service.name".to_owned(), name.into())], attributes: Vec::new() }
    }

    /// A resource attribute's value; the first, should the name occur twice.
    pub fn resource_attribute(&self, name: &str) -> Option<&Value> {
        find(&self.resource, name)
    }

    /// The value of an attribute beside the resource; the first, should the name occur twice.
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        find(&self.attributes, name)
    }

    /// The service's name, if it is given.
    pub fn service_name(&self) -> Option<&str> {
        self.resource_attribute("service.name")?.as_str()
    }

    /// Whether the process says that its threads carry records as in [`crate::record`].
    pub fn has_thread_records(&self) -> bool {
        self.attribute(SCHEMA_ATTRIBUTE)
            .and_then(Value::as_str)
            .is_some_and(|schema| THREAD_RECORD_SCHEMAS.contains(&schema))
    }

    /// The key map of the thread records' attributes; empty if none is given.
    pub fn key_map(&self) -> KeyMap {
        match self.attribute(KEY_MAP_ATTRIBUTE) {
            // A name that is no text keeps its place, or all after it would get the wrong name.
            Some(Value::Array(names)) => {
                KeyMap::new(names.iter().map(|name| name.as_str().unwrap_or_default().to_owned()))
            }
            _ => KeyMap::default(),
        }
    }

    /// Whether a sequence word follows the slot.
    pub fn has_sequence(&self) -> bool {
        matches!(self.attribute(SEQUENCE_ATTRIBUTE), Some(Value::Boolean(true)))
    }

    /// Sets an attribute beside the resource, replacing one of the same name.
    pub fn set_attribute(&mut self, name: &str, value: Value) {
        self.attributes.retain(|(existing, _)| existing != name);
        self.attributes.push((name.to_owned(), value));
    }
}

/// The key map of our writer as a value.
fn written_key_map() -> Value {
    Value::Array(KEYS.iter().map(|name| Value::from(*name)).collect())
}

fn find<'a>(entries: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    entries.iter().find(|(existing, _)| existing == name).map(|(_, value)| value)
}
