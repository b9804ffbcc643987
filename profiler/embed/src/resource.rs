//! The resource's attributes from the environment, by OpenTelemetry's rules.

use std::ffi::OsString;

use spanprof_context::process;

const SERVICE_NAME: &str = "service.name";
const INSTANCE_ID: &str = "service.instance.id";

/// An id for this process, where nobody gives it one: random, but the same whenever it is asked for while it is published.
pub(crate) fn own_instance_id() -> String {
    process::own_id().unwrap_or_else(process::random_id)
}

/// Puts together what is given by hand and what the environment says. By hand goes first, then `OTEL_SERVICE_NAME`, then
/// `OTEL_RESOURCE_ATTRIBUTES`. A setting that is malformed is left out whole and noted. `own_instance_id` is taken where no
/// other instance id is given.
pub(crate) fn compose(
    service_name: Option<String>,
    given: Vec<(String, String)>,
    own_instance_id: &str,
    environment: impl Fn(&str) -> Option<OsString>,
    notes: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut variable = |name: &str| match environment(name).map(OsString::into_string) {
        Some(Ok(text)) if !text.is_empty() => Some(text),
        Some(Err(_)) => {
            notes.push(format!("{name} is not UTF-8 and was left out"));
            None
        }
        _ => None,
    };
    let named = service_name.or_else(|| variable("OTEL_SERVICE_NAME"));
    let listed = variable("OTEL_RESOURCE_ATTRIBUTES");

    let mut resource: Vec<(String, String)> =
        named.map(|name| (SERVICE_NAME.to_owned(), name)).into_iter().collect();
    let mut add = |name: String, value: String| {
        if !resource.iter().any(|(existing, _)| *existing == name) {
            resource.push((name, value));
        }
    };
    // The last given by hand counts.
    given.into_iter().rev().for_each(|(name, value)| add(name, value));
    match listed.as_deref().map(parse_list) {
        Some(Ok(entries)) => entries.into_iter().for_each(|(name, value)| add(name, value)),
        Some(Err(entry)) => {
            notes.push(format!("OTEL_RESOURCE_ATTRIBUTES was left out: {entry:?} is no name=value pair"));
        }
        None => {}
    }
    add(SERVICE_NAME.to_owned(), default_service_name());
    add(INSTANCE_ID.to_owned(), own_instance_id.to_owned());
    resource
}

/// The service's name in a resource that was put together.
#[cfg(feature = "finished-spans")]
pub(crate) fn service_name(resource: &[(String, String)]) -> &str {
    resource.iter().find(|(name, _)| name == SERVICE_NAME).map_or("", |(_, value)| value)
}

/// Parses `name=value,name=value` with percent-encoded values. On error returns the entry that is malformed.
fn parse_list(text: &str) -> Result<Vec<(String, String)>, &str> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (name, value) = entry.split_once('=').ok_or(entry)?;
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() {
                return Err(entry);
            }
            Ok((percent_decode(name).ok_or(entry)?, percent_decode(value).ok_or(entry)?))
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || (rest.next()? as char).to_digit(16);
            bytes.push((digit()? << 4 | digit()?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn default_service_name() -> String {
    let program = std::env::current_exe().ok();
    match program.as_ref().and_then(|path| path.file_name()) {
        Some(name) => format!("unknown_service:{}", name.to_string_lossy()),
        None => "unknown_service".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN_ID: &str = "0d5f1fb5-5d2c-4b0e-9d0c-5f6b3a1c2d3e";

    fn compose_with(
        name: Option<&str>,
        given: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> (Vec<(String, String)>, Vec<String>) {
        let mut notes = Vec::new();
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let lookup =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        (compose(name.map(str::to_owned), given, OWN_ID, lookup, &mut notes), notes)
    }

    fn value<'a>(resource: &'a [(String, String)], name: &str) -> Option<&'a str> {
        let mut found = resource.iter().filter(|(existing, _)| existing == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} occurs twice");
        value
    }

    #[test]
    fn precedence_is_by_hand_then_name_then_list() {
        let list = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=listed,service.version=1,team=a%2Cb");
        let name = ("OTEL_SERVICE_NAME", "named");
        let (resource, notes) = compose_with(Some("hand"), &[("service.version", "2")], &[list, name]);
        assert_eq!(value(&resource, "service.name"), Some("hand"));
        assert_eq!(value(&resource, "service.version"), Some("2"));
        assert_eq!(value(&resource, "team"), Some("a,b"));
        assert!(notes.is_empty());
        assert_eq!(value(&compose_with(None, &[], &[list, name]).0, "service.name"), Some("named"));
        assert_eq!(value(&compose_with(None, &[], &[list]).0, "service.name"), Some("listed"));
        assert!(
            value(&compose_with(None, &[], &[]).0, "service.name").unwrap().starts_with("unknown_service:")
        );
    }

    #[test]
    fn a_malformed_list_is_left_out_whole_and_noted() {
        for list in ["a=1,b", "a=1,=2", "a=1,b=%zz", "a=1,b=%e", "a=1,b=%ff"] {
            let (resource, notes) = compose_with(Some("s"), &[], &[("OTEL_RESOURCE_ATTRIBUTES", list)]);
            assert_eq!(value(&resource, "a"), None, "{list}");
            assert_eq!(notes.len(), 1, "{list}");
        }
    }

    #[test]
    fn a_given_instance_id_counts_for_more_than_our_own() {
        let (resource, _) = compose_with(None, &[], &[]);
        assert_eq!(value(&resource, INSTANCE_ID), Some(OWN_ID));
        let listed = ("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7");
        assert_eq!(value(&compose_with(None, &[], &[listed]).0, INSTANCE_ID), Some("pod-7"));
    }
}
