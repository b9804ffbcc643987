//! The two ways to carry OTLP, and which one an address means.

use std::borrow::Cow;

/// How requests are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// `http/protobuf`: a POST for each.
    #[default]
    Http,
    /// `grpc`: a call for each, over HTTP/2. Needs the crate's feature `grpc`.
    Grpc,
}

/// What OTLP over gRPC has as its own port.
const GRPC_PORT: &str = ":4317";

impl Protocol {
    /// What an address means: gRPC where it begins with `grpc://` or `grpcs://` (the same over TLS), or names gRPC's own port,
    /// 4317.
    pub fn of(url: &str) -> Protocol {
        let Some((scheme, rest)) = url.split_once("://") else { return Protocol::Http };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        match matches!(scheme, "grpc" | "grpcs") || authority.ends_with(GRPC_PORT) {
            true => Protocol::Grpc,
            false => Protocol::Http,
        }
    }

    /// By the name that `OTEL_EXPORTER_OTLP_PROTOCOL` has for it; none for others, such as `http/json`.
    pub fn named(name: &str) -> Option<Protocol> {
        match name.trim() {
            "grpc" => Some(Protocol::Grpc),
            "http/protobuf" => Some(Protocol::Http),
            _ => None,
        }
    }
}

/// An address as the HTTP client takes it.
pub(super) fn as_http(url: &str) -> Cow<'_, str> {
    match url.split_once("://") {
        Some(("grpc", rest)) => format!("http://{rest}").into(),
        Some(("grpcs", rest)) => format!("https://{rest}").into(),
        _ => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_the_protocol() {
        for (url, protocol, http) in [
            ("http://localhost:4318", Protocol::Http, "http://localhost:4318"),
            ("http://localhost:4317", Protocol::Grpc, "http://localhost:4317"),
            ("https://collector:4317/", Protocol::Grpc, "https://collector:4317/"),
            ("http://[::1]:4317", Protocol::Grpc, "http://[::1]:4317"),
            ("http://localhost:14317/4317", Protocol::Http, "http://localhost:14317/4317"),
            ("grpc://localhost:4040", Protocol::Grpc, "http://localhost:4040"),
            ("grpcs://pyroscope.example", Protocol::Grpc, "https://pyroscope.example"),
            ("localhost:4317", Protocol::Http, "localhost:4317"),
            ("", Protocol::Http, ""),
        ] {
            assert_eq!((Protocol::of(url), as_http(url).as_ref()), (protocol, http), "{url}");
        }
    }

    #[test]
    fn names_are_those_of_the_environment() {
        let named = ["grpc", " http/protobuf ", "http/json", ""].map(Protocol::named);
        assert_eq!(named, [Some(Protocol::Grpc), Some(Protocol::Http), None, None]);
    }
}
