//! Where `attach` sends windows to: the options that name destinations, and what a refusal is called.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use spanprof_exporter::Profile;
use spanprof_exporter::delivery::{ConfigError, Credentials};
use spanprof_exporter::directory::WindowDirectory;
use spanprof_exporter::otlp::{OtlpConfig, OtlpSink, Protocol};
use spanprof_exporter::pyroscope::{PyroscopeConfig, PyroscopeSink};

use super::exit::{Exit, Failure};
use super::page::{ADDRESS, Keeping, Place};
use super::shipping::{RETRY_LIMIT, Shipment, Shipper, Sink};
use super::units::{count, counted};
use crate::page::Archive;

/// Where windows go.
#[derive(Debug, Args)]
pub(super) struct Destinations {
    /// Push each window to the Pyroscope server at this address
    ///
    /// Signs in with PYROSCOPE_BASIC_AUTH_USER and PYROSCOPE_BASIC_AUTH_PASSWORD, or with
    /// PYROSCOPE_AUTH_TOKEN, where the environment holds them.
    #[arg(long, value_name = "URL")]
    pyroscope: Option<String>,
    /// Send each window as OTLP profiles (v1development) to the server at this address
    ///
    /// Such as a collector's http://localhost:4318, or http://localhost:4317 by gRPC; it is not signed in to. gRPC is spoken where
    /// the address begins with grpc:// (grpcs:// over TLS); else OTEL_EXPORTER_OTLP_PROFILES_PROTOCOL or
    /// OTEL_EXPORTER_OTLP_PROTOCOL says whether it is grpc or http/protobuf; else port 4317 means gRPC.
    #[arg(long, value_name = "URL")]
    otlp_profiles: Option<String>,
    /// Write each window as a pprof file into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How large the windows in --dir may grow together; the oldest go first
    #[arg(long, value_name = "MB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    dir_limit: u64,
    /// How old the windows in --dir may grow
    #[arg(long, value_name = "HOURS", default_value_t = 168, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    dir_age: u64,
    /// Show the windows on a page at this address, for this machine's browser [without ADDR: 127.0.0.1:4142]
    ///
    /// It looks back over --dir, or over the newest 8 MB of windows in memory where there is none. Another address than the
    /// loopback's shows the profiles to whoever reaches it: there is no password.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = ADDRESS)]
    page: Option<SocketAddr>,
    /// Put this tag on everything that is pushed to Pyroscope
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<(String, String)>,
    /// The tenant (X-Scope-OrgID) on a server with several
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

impl Destinations {
    /// Refuses where none is named.
    ///
    /// # Errors
    /// Wrong usage.
    pub(super) fn require_some(&self) -> Result<(), Failure> {
        let some = self.pyroscope.is_some() || self.otlp_profiles.is_some();
        if !some && self.dir.is_none() && self.page.is_none() {
            return Err(Failure::new(Exit::Usage, "nowhere to send profiles to")
                .help("give --pyroscope URL or --dir DIR, or both, or --page, or --otlp-profiles URL; see `spanprof attach --help`"));
        }
        Ok(())
    }

    /// The Pyroscope that is pushed to.
    pub(super) fn pyroscope(&self) -> Option<&str> {
        self.pyroscope.as_deref()
    }

    /// The page's address, where there shall be one.
    pub(super) fn page(&self) -> Option<SocketAddr> {
        self.page
    }

    /// A shipper for each, before which so many windows may wait, and what the page reads where there shall be one.
    ///
    /// # Errors
    /// Where one can't be used.
    pub(super) fn shippers(&self, queue: usize) -> Result<(Vec<Shipper>, Option<Arc<Archive>>), Failure> {
        let mut shippers = Vec::new();
        let thread_failure =
            |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot start a thread: {error}"));
        let usage = |error: ConfigError| Failure::new(Exit::Usage, error.to_string());
        let mut archive = None;
        if let Some((name, place)) = self.place()? {
            let keeping = match self.page {
                None => Keeping::at(place),
                Some(_) => {
                    let (keeping, read_by_page) = Keeping::for_a_page(place);
                    archive = Some(read_by_page);
                    keeping
                }
            };
            shippers.push(Shipper::start(name, queue, keeping).map_err(thread_failure)?);
        }
        if let Some(url) = &self.pyroscope {
            let config = PyroscopeConfig {
                tenant: self.tenant.clone(),
                credentials: credentials(|name| std::env::var(name).ok()),
                tags: self.tags.clone(),
                retry_budget: RETRY_LIMIT,
                ..PyroscopeConfig::new(url)
            };
            let sink = PyroscopeSink::new(config).map_err(usage)?;
            shippers.push(
                Shipper::start(url.clone(), queue, Push::new(Server::Pyroscope(sink))?)
                    .map_err(thread_failure)?,
            );
        }
        if let Some(url) = &self.otlp_profiles {
            let config = OtlpConfig {
                protocol: protocol(url, |name| std::env::var(name).ok())?,
                tenant: self.tenant.clone(),
                // Pyroscope's password is no business of another server.
                credentials: Credentials::None,
                retry_budget: RETRY_LIMIT,
                ..OtlpConfig::new(url)
            };
            let sink = OtlpSink::new(config).map_err(usage)?;
            shippers.push(
                Shipper::start(url.clone(), queue, Push::new(Server::Otlp(sink))?).map_err(thread_failure)?,
            );
        }
        Ok((shippers, archive))
    }

    /// Where windows are kept, and what it is called.
    fn place(&self) -> Result<Option<(String, Place)>, Failure> {
        let Some(directory) = &self.dir else {
            return Ok(self.page.map(|_| ("the page".to_owned(), Place::memory())));
        };
        let windows = WindowDirectory::new(directory, self.dir_limit.saturating_mul(1_000_000))
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?
            .keeping_for(Duration::from_secs(self.dir_age * 3_600));
        Ok(Some((directory.display().to_string(), Place::Directory(windows))))
    }
}

/// The environment's credentials, under the names that Pyroscope's own clients use.
fn credentials(variable: impl Fn(&str) -> Option<String>) -> Credentials {
    let variable = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(token) = variable("PYROSCOPE_AUTH_TOKEN") {
        return Credentials::Bearer { token };
    }
    match (variable("PYROSCOPE_BASIC_AUTH_USER"), variable("PYROSCOPE_BASIC_AUTH_PASSWORD")) {
        (Some(user), password) => Credentials::Basic { user, password: password.unwrap_or_default() },
        (None, _) => Credentials::None,
    }
}

/// What the address or, under the names that OpenTelemetry's exporters use, the environment says is spoken.
///
/// # Errors
/// Wrong usage where it says what spanprof does not speak.
fn protocol(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Protocol, Failure> {
    if url.starts_with("grpc") {
        return Ok(Protocol::Grpc);
    }
    for name in ["OTEL_EXPORTER_OTLP_PROFILES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
            return Protocol::named(&value).ok_or_else(|| {
                Failure::new(Exit::Usage, format!("{name} is {value:?}, which is not spoken here"))
                    .help("set it to grpc or http/protobuf")
            });
        }
    }
    Ok(Protocol::of(url))
}

/// What speaks to a server.
enum Server {
    Pyroscope(PyroscopeSink),
    Otlp(OtlpSink),
}

/// Pushes to a server on a runtime of its own: one thread, no more than a push needs.
struct Push {
    server: Server,
    runtime: tokio::runtime::Runtime,
}

impl Push {
    fn new(server: Server) -> Result<Push, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the network: {error}")))?;
        Ok(Push { server, runtime })
    }
}

impl Sink for Push {
    fn ship(&mut self, profile: &Profile) -> Shipment {
        let report = self.runtime.block_on(async {
            match &self.server {
                Server::Pyroscope(sink) => sink.push(profile).await,
                // Samples carry their service; the agent has no resource of its own to tell of.
                Server::Otlp(sink) => sink.push(profile, &[]).await,
            }
        });
        let why = report.first_error.unwrap_or_else(|| "no reason was given".into());
        let dropped = &report.dropped;
        let mut problems = Vec::new();
        for (kind, number, words) in [
            ("rejected", dropped.rejected, "the server refused"),
            ("misconfigured", dropped.misconfigured, "the server's address or the credentials are wrong for"),
            ("rate limited", dropped.rate_limited, "the server's rate limit dropped"),
            ("unreachable", dropped.unreachable, "the server was not there for"),
            ("timed out", dropped.timed_out, "the server did not answer in time for"),
            ("too large", dropped.too_large, "samples were larger than the server takes in"),
        ] {
            if number > 0 {
                let profiles = counted(number, "profile", "profiles");
                problems.push((kind, format!("{words} {profiles}: {why}")));
            }
        }
        if report.bad_ids > 0 {
            problems.push(("bad ids", format!("{} malformed span ids were left off", count(report.bad_ids))));
        }
        if report.capped_values > 0 {
            let samples = count(report.capped_values);
            problems.push((
                "capped values",
                format!("a label has too many values: {samples} samples were sent with `other`"),
            ));
        }
        Shipment { arrived: dropped.total() == 0, problems }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_pairs() {
        assert_eq!(parse_tag("region=eu=1"), Ok(("region".into(), "eu=1".into())));
        for bad in ["", "region", "=eu", "region="] {
            assert!(parse_tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credentials_come_from_the_environment() {
        let from = |pairs: &'static [(&str, &str)]| {
            credentials(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(from(&[]), Credentials::None);
        assert_eq!(from(&[("PYROSCOPE_AUTH_TOKEN", "")]), Credentials::None);
        assert_eq!(from(&[("PYROSCOPE_AUTH_TOKEN", "t")]), Credentials::Bearer { token: "t".into() });
        let basic = [("PYROSCOPE_BASIC_AUTH_USER", "7"), ("PYROSCOPE_BASIC_AUTH_PASSWORD", "p")];
        let basic: &'static [(&str, &str)] = Box::leak(Box::new(basic));
        assert_eq!(from(basic), Credentials::Basic { user: "7".into(), password: "p".into() });
    }

    #[test]
    fn the_protocol_is_the_address_s_then_the_environment_s_then_the_port_s() {
        let spoken = |url, pairs: &[(&str, &str)]| {
            let found = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|pair| pair.1.to_owned());
            protocol(url, found)
        };
        let (general, own) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_PROFILES_PROTOCOL");
        for (url, pairs, expected) in [
            ("http://x:4318", &[][..], Protocol::Http),
            ("http://x:4317", &[(general, "")], Protocol::Grpc),
            ("http://x:4317", &[(general, "http/protobuf")], Protocol::Http),
            ("http://x:4040", &[(general, "http/protobuf"), (own, "grpc")], Protocol::Grpc),
            ("grpc://x:4040", &[(general, "http/json")], Protocol::Grpc),
        ] {
            assert_eq!(spoken(url, pairs).unwrap(), expected, "{url} {pairs:?}");
        }
        let refused = spoken("http://x:4318", &[(general, "http/json")]).unwrap_err();
        assert!(refused.to_string().contains("http/json"), "{refused}");
    }
}
