//! What the real server takes and refuses.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::read::GzDecoder;
use prost::Message;

use super::http::Request;
use crate::pprof::PprofProfile;
use crate::pyroscope::{PushRequest, RawProfileSeries};

/// One sample type of one pushed profile, as the server would keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredProfile {
    /// `__name__`, type, unit, period type and unit, joined by colons.
    pub type_id: String,
    /// The series' labels.
    pub labels: BTreeMap<String, String>,
    /// Names of series or sample labels that the real server stores but hides.
    pub hidden_labels: Vec<String>,
    /// The period, 0 where there is none.
    pub period: i64,
    /// When the profile began, in nanoseconds since the Unix epoch.
    pub time_nanoseconds: i64,
    /// The samples with a value above zero.
    pub samples: Vec<StoredSample>,
    /// The size before compression, in bytes.
    pub raw_bytes: usize,
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSample {
    /// Function names, root first; frames without a name are left out, as the server does.
    pub stack: Vec<String>,
    /// The value.
    pub value: i64,
    /// The span, where a valid id was given.
    pub span_id: Option<String>,
    /// The trace, where a valid id was given.
    pub trace_id: Option<String>,
    /// The other labels with text, which the server makes series of.
    pub labels: BTreeMap<String, String>,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
}

fn refuse<T>(status: u16, code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, code, message: message.into() })
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    refuse(400, "invalid_argument", message)
}

const MOST_SAMPLES: usize = 16_000;
const MOST_BYTES: usize = 4 << 20;
const BURST_BYTES: usize = 2 << 20;
const MOST_SERIES_LABELS: usize = 30;
const MOST_SAMPLE_LABELS: usize = 100;
const LONGEST_VALUE: usize = 2048;
const LONGEST_STACK: usize = 1000;

/// Stores what can be stored, and gives the one error that the request is answered with.
pub(super) fn accept(request: &Request, multitenancy: bool) -> (Vec<StoredProfile>, Option<Refusal>) {
    let push = match push_request(request, multitenancy) {
        Ok(push) => push,
        Err(refusal) => return (Vec::new(), Some(refusal)),
    };
    let mut stored = Vec::new();
    let mut refusal = None;
    for series in &push.series {
        match stored_series(series) {
            Ok(profiles) => stored.extend(profiles),
            Err(refused) => refusal = refusal.or(Some(refused)),
        }
    }
    (stored, refusal)
}

fn push_request(request: &Request, multitenancy: bool) -> Result<PushRequest, Refusal> {
    if request.path != "/push.v1.PusherService/Push" {
        return refuse(404, "", "");
    }
    if request.method != "POST" {
        return refuse(405, "", "");
    }
    if request.header("content-type") != Some("application/proto") {
        return refuse(415, "", "");
    }
    if multitenancy && request.header("x-scope-orgid").is_none_or(str::is_empty) {
        return refuse(401, "unauthenticated", "no org id");
    }
    let body = match request.header("content-encoding") {
        None | Some("identity") => request.body.clone(),
        Some("gzip") => match gunzip(&request.body) {
            Ok(body) => body,
            Err(error) => return invalid(format!("decompress: {error}")),
        },
        Some(other) => return refuse(501, "unimplemented", format!("unknown compression {other}")),
    };
    let Ok(push) = PushRequest::decode(&*body) else { return invalid("unmarshal message") };
    if push.series.is_empty() || push.series.iter().all(|series| series.samples.is_empty()) {
        return invalid("no profiles received");
    }
    Ok(push)
}

/// The decompressed body of a post of OTLP profiles, looked at from outside only.
pub(super) fn accept_otlp(request: &Request) -> Result<Vec<u8>, Refusal> {
    if request.method != "POST" {
        return refuse(405, "", "");
    }
    if !matches!(request.header("content-type"), Some("application/x-protobuf" | "application/protobuf")) {
        return refuse(415, "", "");
    }
    match request.header("content-encoding") {
        None | Some("identity") => Ok(request.body.clone()),
        Some("gzip") => match gunzip(&request.body) {
            Ok(body) => Ok(body),
            Err(error) => invalid(format!("decompress: {error}")),
        },
        Some(other) => invalid(format!("unknown compression {other}")),
    }
}

fn gunzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain)?;
    Ok(plain)
}

fn stored_series(series: &RawProfileSeries) -> Result<Vec<StoredProfile>, Refusal> {
    let labels = series_labels(series)?;
    let mut stored = Vec::new();
    for sample in &series.samples {
        let plain;
        let raw = if sample.raw_profile.starts_with(&[0x1f, 0x8b]) {
            plain = match gunzip(&sample.raw_profile) {
                Ok(plain) => plain,
                Err(error) => return refuse(500, "unknown", format!("copy to buffer: {error}")),
            };
            &plain
        } else {
            &sample.raw_profile
        };
        if raw.is_empty() {
            return refuse(500, "unknown", "gzip reset: EOF");
        }
        if raw.len() > MOST_BYTES {
            return invalid("uncompressed profile payload size exceeds limit of 4.2 MB");
        }
        if raw.len() > BURST_BYTES {
            return refuse(429, "resource_exhausted", "push rate limit (4.0 MiB) exceeded");
        }
        let Ok(profile) = PprofProfile::decode(&**raw) else {
            return refuse(500, "unknown", "proto: illegal wireType");
        };
        stored.extend(stored_profile(&profile, &labels, raw.len())?);
    }
    Ok(stored)
}

fn series_labels(series: &RawProfileSeries) -> Result<BTreeMap<String, String>, Refusal> {
    if series.labels.len() > MOST_SERIES_LABELS {
        return invalid("series has too many label names");
    }
    let mut labels = BTreeMap::new();
    for pair in &series.labels {
        if pair.name.is_empty() || pair.value.len() > LONGEST_VALUE {
            return invalid(format!("invalid label {:?}", pair.name));
        }
        if labels.insert(pair.name.clone(), pair.value.clone()).is_some() {
            return invalid(format!("duplicate label {:?}", pair.name));
        }
    }
    match labels.get("__name__") {
        Some(name) if is_name(name) => {}
        _ => return invalid("invalid metric name"),
    }
    if labels.get("service_name").is_some_and(String::is_empty) {
        return invalid("service name is not set");
    }
    labels.retain(|_, value| !value.is_empty());
    labels.entry("service_name".into()).or_insert_with(|| "unknown_service".into());
    Ok(labels)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn stored_profile(
    profile: &PprofProfile,
    labels: &BTreeMap<String, String>,
    raw_bytes: usize,
) -> Result<Vec<StoredProfile>, Refusal> {
    let strings = Strings::new(profile)?;
    check(profile, &strings)?;
    let time_nanoseconds = checked_time(profile.time_nanos)?;
    let stacks = Stacks::new(profile, &strings)?;
    let (period_type, period_unit) = match profile.period_type {
        Some(period) => (strings.get(period.r#type)?, strings.get(period.unit)?),
        None => ("", ""),
    };
    let mut stored = Vec::new();
    for (column, r#type) in profile.sample_type.iter().enumerate() {
        let name = &labels["__name__"];
        let (r#type, unit) = (strings.get(r#type.r#type)?, strings.get(r#type.unit)?);
        let type_id = format!("{name}:{type}:{unit}:{period_type}:{period_unit}");
        let mut samples = Vec::new();
        for sample in profile.sample.iter().filter(|sample| sample.value[column] > 0) {
            let mut text_labels = BTreeMap::new();
            for label in sample.label.iter().filter(|label| label.str != 0) {
                text_labels.insert(strings.get(label.key)?.to_owned(), strings.get(label.str)?.to_owned());
            }
            let span_id = text_labels.remove("span_id").filter(|id| is_hex(id, 16));
            let trace_id = text_labels.remove("trace_id").filter(|id| is_hex(id, 32));
            let stack = stacks.root_first(&sample.location_id)?;
            let value = sample.value[column];
            // A stack without a single name vanishes with its value.
            if !stack.is_empty() {
                samples.push(StoredSample {
                    stack,
                    value,
                    span_id: span_id.map(|id| id.to_ascii_lowercase()),
                    trace_id: trace_id.map(|id| id.to_ascii_lowercase()),
                    labels: text_labels,
                });
            }
        }
        let mut hidden_labels: Vec<String> = labels
            .keys()
            .chain(samples.iter().flat_map(|sample| sample.labels.keys()))
            .filter(|name| !is_name(name))
            .cloned()
            .collect();
        hidden_labels.sort();
        hidden_labels.dedup();
        if !samples.is_empty() {
            let (labels, period) = (labels.clone(), profile.period);
            stored.push(StoredProfile {
                type_id,
                labels,
                hidden_labels,
                period,
                time_nanoseconds,
                samples,
                raw_bytes,
            });
        }
    }
    Ok(stored)
}

fn check(profile: &PprofProfile, strings: &Strings<'_>) -> Result<(), Refusal> {
    if profile.sample_type.is_empty() {
        return invalid("profile has no sample types");
    }
    if profile.sample.len() > MOST_SAMPLES {
        return invalid(format!(
            "profile with {} samples exceeds the samples count limit",
            profile.sample.len()
        ));
    }
    for r#type in &profile.sample_type {
        if strings.get(r#type.r#type)?.contains('-') {
            return invalid("sample type contains -");
        }
    }
    for sample in &profile.sample {
        if sample.value.len() != profile.sample_type.len() {
            return invalid("sample value length mismatch");
        }
        if sample.label.len() > MOST_SAMPLE_LABELS {
            return invalid("sample has too many labels");
        }
        for label in &sample.label {
            if strings.get(label.key)?.is_empty() || strings.get(label.str)?.len() > LONGEST_VALUE {
                return invalid("invalid sample label");
            }
        }
    }
    Ok(())
}

/// The ingestion window: an hour back, ten minutes ahead; 0 is the server's own now.
fn checked_time(nanoseconds: i64) -> Result<i64, Refusal> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if nanoseconds == 0 {
        return Ok(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
    }
    let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    let hour = Duration::from_secs(3600);
    if time + hour < now || time > now + Duration::from_secs(600) {
        return invalid("profile with timestamp is outside of ingestion window");
    }
    Ok(nanoseconds)
}

fn is_hex(id: &str, length: usize) -> bool {
    id.len() == length && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0')
}

struct Strings<'a>(Vec<&'a str>);

impl<'a> Strings<'a> {
    fn new(profile: &'a PprofProfile) -> Result<Self, Refusal> {
        let mut strings = Vec::with_capacity(profile.string_table.len());
        for bytes in &profile.string_table {
            match std::str::from_utf8(bytes) {
                Ok(text) => strings.push(text),
                Err(_) => return invalid("invalid utf8 string hex"),
            }
        }
        if strings.first() != Some(&"") {
            return invalid("string 0 should be empty string");
        }
        Ok(Strings(strings))
    }

    fn get(&self, index: i64) -> Result<&'a str, Refusal> {
        match usize::try_from(index).ok().and_then(|index| self.0.get(index)) {
            Some(text) => Ok(text),
            None => invalid("string index out of range"),
        }
    }
}

/// The names at each location, outermost first.
struct Stacks<'a>(HashMap<u64, Vec<&'a str>>);

impl<'a> Stacks<'a> {
    fn new(profile: &PprofProfile, strings: &Strings<'a>) -> Result<Self, Refusal> {
        let mut functions = HashMap::new();
        for function in &profile.function {
            if function.id == 0 || functions.insert(function.id, strings.get(function.name)?).is_some() {
                return invalid("function id is zero or repeats");
            }
        }
        let mut locations = HashMap::new();
        for location in &profile.location {
            let mut names = Vec::new();
            for line in location.line.iter().rev() {
                match functions.get(&line.function_id) {
                    Some(name) => names.push(*name),
                    None => return invalid("function does not exist"),
                }
            }
            names.retain(|name| !name.is_empty());
            if location.id == 0 || locations.insert(location.id, names).is_some() {
                return invalid("location id is zero or repeats");
            }
            let mappings = profile.mapping.len() as u64;
            if location.mapping_id > mappings {
                return invalid("mapping does not exist");
            }
        }
        Ok(Stacks(locations))
    }

    /// Long stacks lose their leaf end.
    fn root_first(&self, locations: &[u64]) -> Result<Vec<String>, Refusal> {
        let mut stack = Vec::new();
        for id in locations.iter().rev().take(LONGEST_STACK) {
            match self.0.get(id) {
                Some(names) => stack.extend(names.iter().map(|name| (*name).to_owned())),
                None => return invalid("location does not exist"),
            }
        }
        Ok(stack)
    }
}
