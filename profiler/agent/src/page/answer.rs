//! One request and its answer.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use spanprof_exporter::page::{self, LivePage, Loss, LossAmount, PageDetails};
use spanprof_exporter::{Profile, SampleFilter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::archive::{Archive, Chosen};
use super::body::Whole;
use super::cache::Cache;
use super::export::{Exported, export, stored};
use super::guard;
use super::health::Health;
use super::question::{Download, Format, Misunderstood, Question, Range};
use crate::metrics::{CONTENT_TYPE, Metrics, prometheus_text};

/// Costly answers that are made or on their way at the same time.
const COSTLY: usize = 4;
/// How long a question waits for its turn.
const PATIENCE: Duration = Duration::from_secs(15);
/// The policy of what is no page.
const CLOSED: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// All that can be asked for.
pub(crate) struct Site {
    archive: Arc<Archive>,
    health: Arc<Health>,
    metrics: Option<Arc<Metrics>>,
    details: PageDetails,
    page: LivePage,
    /// The data of ranges, compressed.
    profiles: Mutex<Cache<Chosen>>,
    room: Arc<Semaphore>,
}

impl Site {
    /// A page over these windows; its details are those of a recording that another program made.
    pub(crate) fn new(archive: Arc<Archive>, health: Arc<Health>, details: PageDetails) -> Site {
        let page = page::live();
        let page = LivePage { policy: format!("{}; frame-ancestors 'none'", page.policy), ..page };
        let profiles = Mutex::new(Cache::new(archive.bounds.cache));
        Site {
            archive,
            health,
            metrics: None,
            details,
            page,
            profiles,
            room: Arc::new(Semaphore::new(COSTLY)),
        }
    }

    /// The same with numbers for Prometheus, where an agent counts.
    pub(crate) fn with_metrics(self, metrics: Option<Arc<Metrics>>) -> Site {
        Site { metrics, ..self }
    }

    /// The data of a range, compressed.
    fn profile(&self, range: Range) -> Bytes {
        let chosen = self.archive.choose(range);
        let profiles = || self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = profiles().get(&chosen) {
            return known;
        }
        let profile = self.archive.merged(&chosen);
        let data = gzip(page::data_json(&profile, &self.details_of(&chosen)).as_bytes());
        profiles().put(chosen, data.clone());
        data
    }

    fn details_of(&self, chosen: &Chosen) -> PageDetails {
        let mut details = self.details.clone();
        if details.source.is_empty() {
            details.source = self.health.source();
        }
        for (count, cause) in [
            (
                chosen.left_out,
                "older windows of this range are more than is shown at once: choose a shorter range",
            ),
            (chosen.unreadable, "windows of this range could not be read"),
        ] {
            if count > 0 {
                details.losses.push(Loss { cause: cause.to_owned(), amount: LossAmount::Count(count) });
            }
        }
        details
    }

    fn export(&self, asked: &Download) -> Option<Exported> {
        let chosen = self.archive.choose(asked.range);
        let whole = asked.kind.is_none() && asked.filter == SampleFilter::default();
        if let ([window], Format::Pprof, true) = (&chosen.windows[..], asked.format, whole) {
            return Some(stored(self.archive.stored(window)?, window.file_name()));
        }
        let profile: Profile = self.archive.merged(&chosen);
        export(&profile, asked)
    }
}

/// Answers one request that reached us at an address of ours.
pub(super) async fn answer(
    site: Arc<Site>,
    request: Request<Incoming>,
    reached: std::net::SocketAddr,
) -> Response<Whole> {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = words(StatusCode::METHOD_NOT_ALLOWED, "this page can only be read\n".to_owned());
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    if let Some((status, why)) = guard::refusal(headers, uri, reached) {
        return words(status, why);
    }
    let question = match Question::read(uri.path(), uri.query()) {
        Ok(question) => question,
        Err(Misunderstood::Unknown) => {
            return words(StatusCode::NOT_FOUND, "there is no such page\n".to_owned());
        }
        Err(Misunderstood::TooLong) => {
            return words(StatusCode::URI_TOO_LONG, "the address is too long\n".to_owned());
        }
        Err(Misunderstood::Parameter(why)) => return words(StatusCode::BAD_REQUEST, format!("{why}\n")),
    };
    let zipped = accepts_gzip(headers);
    match question {
        Question::Page => page_itself(&site.page),
        Question::Health => json(site.health.json().to_string().into(), false, None),
        Question::Metrics => match &site.metrics {
            Some(metrics) => {
                let text = prometheus_text(&metrics.snapshot());
                response(StatusCode::OK, CONTENT_TYPE, text.into(), None)
            }
            None => {
                words(StatusCode::NOT_FOUND, "no agent counts here: these are stored windows\n".to_owned())
            }
        },
        Question::Windows(range) => {
            costly(site, move |site, room| {
                let plain = site.archive.windows_json(range);
                let bytes = if zipped { gzip(plain.as_bytes()) } else { plain.into() };
                json(bytes, zipped, Some(room))
            })
            .await
        }
        Question::Profile(range) => {
            costly(site, move |site, room| {
                let compressed = site.profile(range);
                let bytes = if zipped { compressed } else { gunzip(&compressed) };
                json(bytes, zipped, Some(room))
            })
            .await
        }
        Question::Export(asked) => {
            costly(site, move |site, room| match site.export(&asked) {
                Some(exported) => file(exported, room),
                None => words(StatusCode::NOT_FOUND, "nothing of this range is meant by this\n".to_owned()),
            })
            .await
        }
    }
}

/// Makes an answer on the thread for costly work, when it is its turn.
async fn costly(
    site: Arc<Site>,
    make: impl FnOnce(&Site, OwnedSemaphorePermit) -> Response<Whole> + Send + 'static,
) -> Response<Whole> {
    let turn = tokio::time::timeout(PATIENCE, Arc::clone(&site.room).acquire_owned()).await;
    let Ok(Ok(room)) = turn else {
        let mut busy = words(StatusCode::SERVICE_UNAVAILABLE, "others are being answered\n".to_owned());
        busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return busy;
    };
    let made = tokio::task::spawn_blocking(move || {
        let made = make(&site, room);
        give_memory_back();
        made
    })
    .await;
    made.unwrap_or_else(|_| {
        words(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made\n".to_owned())
    })
}

/// Hands to the system what costly work has freed. Of several windows added up it is tens of megabytes, which glibc keeps for
/// this one thread.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: looks at the allocator's own lists, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused =
            matches!(weight.trim().replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

fn gzip(plain: &[u8]) -> Bytes {
    // For a program on this machine: what is saved is memory, and time is dearer.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4 + 64), Compression::fast());
    // Writing into a vector can't fail.
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}

/// What [`gzip`] made, as it was.
fn gunzip(compressed: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    // It was written here, so that it is whole.
    let _ = GzDecoder::new(compressed).read_to_end(&mut plain);
    plain.into()
}

fn page_itself(page: &LivePage) -> Response<Whole> {
    let mut response = response(StatusCode::OK, "text/html; charset=utf-8", page.html.clone().into(), None);
    if let Ok(policy) = HeaderValue::from_str(&page.policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn json(bytes: Bytes, zipped: bool, room: Option<OwnedSemaphorePermit>) -> Response<Whole> {
    let mut response = response(StatusCode::OK, "application/json", bytes, room);
    if zipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

fn file(exported: Exported, room: OwnedSemaphorePermit) -> Response<Whole> {
    let Exported { bytes, name, content_type } = exported;
    let mut response = response(StatusCode::OK, content_type, bytes.into(), Some(room));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    }
    response
}

fn words(status: StatusCode, words: String) -> Response<Whole> {
    response(status, "text/plain; charset=utf-8", words.into(), None)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    bytes: Bytes,
    room: Option<OwnedSemaphorePermit>,
) -> Response<Whole> {
    let mut response = Response::new(Whole::holding(bytes, room));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, CLOSED),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_who_accepts_it() {
        for (value, expected) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.8", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("", false),
            ("x-gzip-not", false),
        ] {
            let headers = [(header::ACCEPT_ENCODING, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
        assert_eq!(gunzip(&gzip(b"profile")), "profile");
    }
}
