//! Links from a span, a trace or a destination to where else it can be looked at: Grafana and Pyroscope.
//!
//! A link is a template with places to be filled in, so that the page's script and this crate make the same links from the same
//! text. In a template stands `{name}` for a value that is percent-encoded as `encodeURIComponent` does it; before that, each
//! word after the name changes it, from left to right:
//!
//! - `quoted`: as it stands between the quotes of a JSON string, which label selectors read too (in JavaScript
//!   `JSON.stringify(value).slice(1, -1)`). A selector within JSON is quoted twice.
//! - `filter`: `|`, `,` and `#` become `__gfp__`, `__gfc__` and `__gfh__`, as Grafana's dashboards write them.
//!
//! What is meant where, as Grafana 12 and 13 and Pyroscope 1 and 2 have it:
//!
//! - Grafana's Explore takes its panes as JSON, and in a query of profiles a list of span ids.
//! - Profiles Drilldown (`grafana-pyroscope-app`) takes variables, and span ids with commas between.
//! - None of them takes a trace id for profiles: a trace's profile is that of its spans, over all services.
//! - Pyroscope's own page takes a service and a time, in version 1; that of version 2 takes nothing and shows its front.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::profile::SampleKind;

/// All that `encodeURIComponent` changes.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Where else there is something to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Pyroscope's address, such as `http://localhost:4040`.
    pub pyroscope: Option<String>,
    /// A Grafana.
    pub grafana: Option<GrafanaSettings>,
}

/// A Grafana, and what its data sources are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrafanaSettings {
    /// Its address, such as `https://grafana.example.org`.
    pub url: String,
    /// The uid of its data source for profiles, a Pyroscope.
    pub profiles: String,
    /// The uid of its data source for traces, a Tempo.
    pub traces: Option<String>,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The address of a page is none.
    #[error("{0:?} is no address to link to: it should look like https://grafana.example.org")]
    Address(String),
    /// The uid of a data source is none.
    #[error("{0:?} is no uid of a data source in Grafana: one has up to 40 letters, digits, - and _")]
    Uid(String),
}

/// What a link is about: which values it needs, and beside what it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// The profile of one span, or of several of one service.
    Span,
    /// The profile of a trace's spans, over all services.
    Trace,
    /// The trace itself, with its spans as their tracers told them.
    TraceItself,
    /// The profile of a service's work for a destination.
    Destination,
    /// The profile of a service.
    Service,
}

/// A link with places to be filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkTemplate {
    /// Where it leads, for people.
    pub title: &'static str,
    /// What it is about.
    pub about: About,
    /// What stands between several span ids in `{span_id}`, before it is percent-encoded.
    pub between_spans: &'static str,
    /// The address, with places.
    pub url: String,
}

/// What places are filled with. What a link is not about may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkValues<'a> {
    /// 16 hexadecimal digits each; what is none is left out.
    pub spans: &'a [&'a str],
    /// 32 hexadecimal digits.
    pub trace: &'a str,
    /// The service's name.
    pub service: &'a str,
    /// The destination's name.
    pub destination: &'a str,
    /// The kind of time.
    pub kind: Option<SampleKind>,
    /// Milliseconds since the Unix epoch. A profile is found by its begin: from the begin of the span's window.
    pub from: u64,
    /// The same, exclusive.
    pub to: u64,
}

/// The id of a kind's profiles in Pyroscope, as its sink names them.
pub fn profile_type(kind: SampleKind) -> String {
    match kind {
        SampleKind::Cpu => "process_cpu:cpu:nanoseconds:cpu:nanoseconds".to_owned(),
        other => format!("{0}:{0}:nanoseconds::", other.as_str()),
    }
}

/// All links that the settings allow, the most telling first.
///
/// # Errors
/// The first setting that can't be linked to.
pub fn link_templates(settings: &LinkSettings) -> Result<Vec<LinkTemplate>, LinkError> {
    let mut templates = Vec::new();
    if let Some(grafana) = &settings.grafana {
        let base = base(&grafana.url)?;
        let profiles = uid(&grafana.profiles)?;
        templates.push(drilldown(base, profiles, About::Span));
        templates.push(explore(base, profiles, About::Span));
        templates.push(explore(base, profiles, About::Trace));
        if let Some(traces) = &grafana.traces {
            templates.push(explore_trace(base, uid(traces)?));
        }
        templates.push(drilldown(base, profiles, About::Destination));
        templates.push(explore(base, profiles, About::Destination));
        templates.push(drilldown(base, profiles, About::Service));
    }
    if let Some(url) = &settings.pyroscope {
        templates.push(own_page(base(url)?));
    }
    Ok(templates)
}

fn template(title: &'static str, about: About, between_spans: &'static str, url: String) -> LinkTemplate {
    LinkTemplate { title, about, between_spans, url }
}

/// A query of profiles in Explore.
fn explore(base: &str, uid: &str, about: About) -> LinkTemplate {
    let (selector, spans) = match about {
        About::Trace => ("{}", r#","spanSelector":["‹span_id›"]"#),
        About::Span => (r#"{service_name=\"‹service quoted quoted›\"}"#, r#","spanSelector":["‹span_id›"]"#),
        _ => {
            let selector = r#"{service_name=\"‹service quoted quoted›\",messaging_destination_name=\"‹destination quoted quoted›\"}"#;
            (selector, "")
        }
    };
    let query = format!(
        r#"{{"refId":"A","datasource":{{"type":"grafana-pyroscope-datasource","uid":"{uid}"}},"queryType":"profile","profileTypeId":"‹type›","labelSelector":"{selector}","groupBy":[]{spans}}}"#
    );
    template("Grafana Explore", about, "\",\"", pane(base, uid, &query))
}

/// A trace in Explore.
fn explore_trace(base: &str, uid: &str) -> LinkTemplate {
    let query = format!(
        r#"{{"refId":"A","datasource":{{"type":"tempo","uid":"{uid}"}},"queryType":"traceql","query":"‹trace_id›"}}"#
    );
    template("Grafana Explore", About::TraceItself, "", pane(base, uid, &query))
}

/// Explore with one pane.
fn pane(base: &str, uid: &str, query: &str) -> String {
    let panes = format!(
        r#"{{"spanprof":{{"datasource":"{uid}","queries":[{query}],"range":{{"from":"‹from›","to":"‹to›"}}}}}}"#
    );
    format!("{base}/explore?schemaVersion=1&panes={}", encoded(&panes))
}

/// Profiles Drilldown.
fn drilldown(base: &str, uid: &str, about: About) -> LinkTemplate {
    let more = match about {
        About::Span => format!("&var-spanSelector={}", encoded("‹span_id›")),
        About::Destination => {
            format!("&var-filters={}", encoded("messaging_destination_name|=|‹destination filter›"))
        }
        _ => String::new(),
    };
    let places = "var-serviceName={service}&var-profileMetricId={type}&from={from}&to={to}";
    let url = format!(
        "{base}/a/grafana-pyroscope-app/explore?explorationType=flame-graph&var-dataSource={uid}&{places}{more}"
    );
    template("Grafana Profiles Drilldown", about, ",", url)
}

/// Pyroscope's own page.
fn own_page(base: &str) -> LinkTemplate {
    let query = encoded(r#"‹type›{service_name="‹service quoted›"}"#);
    template("Pyroscope", About::Service, "", format!("{base}/?query={query}&from={{from}}&until={{to}}"))
}

/// Percent-encodes a text and makes places of what stands in ‹ ›.
fn encoded(text: &str) -> String {
    let mut url = String::with_capacity(2 * text.len());
    for (number, part) in text.split(['‹', '›']).enumerate() {
        match number % 2 {
            0 => url.extend(utf8_percent_encode(part, COMPONENT)),
            _ => url.push_str(&format!("{{{part}}}")),
        }
    }
    url
}

/// An address that a path can be put after, and that means nothing else wherever it stands.
fn base(url: &str) -> Result<&str, LinkError> {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]%".contains(c);
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(is_harmless) => {
            Ok(url.trim_end_matches('/'))
        }
        _ => Err(LinkError::Address(url.to_owned())),
    }
}

fn uid(uid: &str) -> Result<&str, LinkError> {
    let is_right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match (1..=40).contains(&uid.len()) && uid.chars().all(is_right) {
        true => Ok(uid),
        false => Err(LinkError::Uid(uid.to_owned())),
    }
}

impl LinkTemplate {
    /// The link with its places filled in; none where it is about a span or trace and no id is one.
    pub fn fill(&self, values: &LinkValues<'_>) -> Option<String> {
        let is_hex = |id: &str, digits| id.len() == digits && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let spans: Vec<&str> = values.spans.iter().copied().filter(|id| is_hex(id, 16)).collect();
        match self.about {
            About::Span | About::Trace if spans.is_empty() => return None,
            About::TraceItself if !is_hex(values.trace, 32) => return None,
            _ => {}
        }
        let value = |name: &str| match name {
            "span_id" => spans.join(self.between_spans).into(),
            "trace_id" => Cow::Borrowed(values.trace),
            "service" => values.service.into(),
            "destination" => values.destination.into(),
            "type" => profile_type(values.kind.unwrap_or(SampleKind::Cpu)).into(),
            "from" => values.from.to_string().into(),
            "to" => values.to.to_string().into(),
            _ => "".into(),
        };
        Some(filled(&self.url, value))
    }
}

fn filled<'a>(url: &str, value: impl Fn(&str) -> Cow<'a, str>) -> String {
    let mut link = String::with_capacity(2 * url.len());
    // Whatever else a template holds is encoded: braces are places alone.
    for (number, part) in url.split(['{', '}']).enumerate() {
        if number % 2 == 0 {
            link.push_str(part);
            continue;
        }
        let mut words = part.split(' ');
        let of_name = value(words.next().unwrap_or_default());
        let changed = words.fold(of_name.into_owned(), |value, word| match word {
            "quoted" => quoted(&value),
            "filter" => value.replace('|', "__gfp__").replace(',', "__gfc__").replace('#', "__gfh__"),
            _ => value,
        });
        link.extend(utf8_percent_encode(&changed, COMPONENT));
    }
    link
}

/// As it stands between the quotes of a JSON string.
fn quoted(text: &str) -> String {
    let with_quotes = serde_json::Value::from(text).to_string();
    with_quotes[1..with_quotes.len() - 1].to_owned()
}

#[cfg(test)]
mod tests;
