//! The page of a running agent: it asks its own server, follows it, and says when nobody answers.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use spanprof_exporter::page::{data_json, live};

use super::browser::{Browser, Theme};
use super::{details, sample};

/// An agent as the page sees it: canned answers, one request per connection.
struct StandIn {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    is_there: Arc<AtomicBool>,
    profiles: Arc<AtomicU32>,
}

impl StandIn {
    fn start() -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let is_there = Arc::new(AtomicBool::new(true));
        let profiles: Arc<AtomicU32> = Arc::default();
        let (noted, answers, number) = (Arc::clone(&asked), Arc::clone(&is_there), Arc::clone(&profiles));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (noted, answers, number) = (noted.clone(), answers.clone(), number.clone());
                // A thread each, for a browser opens connections that it may never use.
                std::thread::spawn(move || answer(stream, &noted, &answers, &number));
            }
        });
        StandIn { address, asked, is_there, profiles }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic before").clone()
    }
}

const BEGIN: u64 = 1_767_225_600_000;

fn answer(mut stream: TcpStream, asked: &Mutex<Vec<String>>, is_there: &AtomicBool, profiles: &AtomicU32) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() || line.is_empty() {
        return;
    }
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
        header.clear();
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    // Gone is gone: the connection ends without a word.
    if !is_there.load(Ordering::SeqCst) {
        return;
    }
    asked.lock().expect("no panic before").push(target.clone());
    let page = live();
    let class = json!({ "service": "orders", "name": "", "destination": "orders.created", "group": "billing", "operation": "process",
        "points": [[BEGIN, 20, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0], [BEGIN + 5_000, 40, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]] });
    let (kind, body) = match target.split('?').next().unwrap_or_default() {
        "/" => ("text/html; charset=utf-8", page.html),
        "/api/windows" => {
            let newest = BEGIN + 10_000;
            ("application/json", json!({ "now": newest, "oldest": BEGIN, "newest": newest, "windows": [], "series": [class] }).to_string())
        }
        "/api/profile" => {
            profiles.fetch_add(1, Ordering::SeqCst);
            ("application/json", data_json(&sample::orders_with_slow_ones(), &details()))
        }
        "/api/health" => ("application/json", json!({ "version": "0.1.0", "backend": { "name": "bpf", "why": "it is allowed" },
            "losses": [{ "cause": "stacks cut", "amount": 7, "unit": "count" }], "since": BEGIN,
            "cost": { "cpu_seconds": 1.25, "share_of_one_cpu": 0.004, "resident_bytes": 31_000_000 },
            "targets": [{ "pid": 4242, "service": "orders", "executable": "/srv/orders", "threads": 12, "publishes_context": true }],
            "sinks": [{ "name": "Pyroscope", "arrived": 3, "lost": 0 }] }).to_string()),
        _ => ("text/plain", String::new()),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nContent-Security-Policy: {}\r\nConnection: close\r\n\r\n{body}",
        body.len(),
        page.policy
    );
}

/// Waits until the page has drawn what it asked for.
fn wait_until(browser: &mut Browser, state: &str) {
    browser.evaluate(&format!(
        "new Promise((done) => {{ const look = () => document.body.dataset.ready === '{state}' ? done(1) : setTimeout(look, 20); look(); }})"
    ));
    browser.settle();
}

/// Waits until both times are there and laid over each other.
fn wait_until_compared(browser: &mut Browser) {
    let there = "!document.querySelector('#flame-section').hidden && document.querySelector('#compare-words').textContent.includes('in the other')";
    browser.evaluate(&format!(
        "new Promise((done) => {{ const look = () => {there} ? done(1) : setTimeout(look, 20); look(); }})"
    ));
    browser.settle();
}

#[test]
fn the_live_page_shows_what_its_agent_tells_and_a_link_keeps_the_time() {
    let Some(mut browser) = Browser::start("the_live_page_shows_what_its_agent_tells") else { return };
    let agent = StandIn::start();
    browser.dress(1280, 900, Theme::Light);
    browser.open_url(&format!("http://{}/", agent.address));
    wait_until(&mut browser, "yes");
    browser.screenshot("live.png");
    assert!(browser.text("#range select").contains("Last 5 minutes"));
    let spark = "document.querySelectorAll('#destinations .spark > span').length";
    assert_eq!(browser.evaluate(spark), 2, "{}", browser.text("#destinations"));
    browser.click("#slowest tbody tr:first-child td.col-name");
    wait_until(&mut browser, "yes");
    assert!(browser.text("#selection").contains(sample::LOCKED_SPAN));
    let hash = browser.evaluate("location.hash").as_str().unwrap().to_owned();
    assert!(hash.contains(&format!("from={BEGIN}")), "the link holds the time: {hash}");
    assert!(browser.text("#exports").contains("speedscope"));

    browser.open_url(&format!("http://{}/{hash}", agent.address));
    wait_until(&mut browser, "yes");
    assert!(browser.text("#selection").contains(sample::LOCKED_SPAN));
    assert!(agent.asked().iter().any(|target| target.starts_with("/api/profile?from=1767225600000&to=")));

    // The stand-in has one profile for all times: nothing is more in one than in the other.
    browser.open_url(&format!("http://{}/#view=compare&base=before", agent.address));
    wait_until_compared(&mut browser);
    assert!(browser.text("#compare-words").contains("in the other"), "{}", browser.text("#compare-words"));
    browser.evaluate("(() => { const s = document.querySelector('#compare-mode'); s.value = 'other'; s.dispatchEvent(new Event('change')); })()");
    browser.settle();
    assert_eq!(browser.evaluate("document.querySelector('#base-to').value"), "2025-12-31T23:59:59");
    browser.evaluate("(() => { const i = document.querySelector('#base-from'); i.value = '2025-12-31T22:00:00'; i.dispatchEvent(new Event('change')); })()");
    wait_until_compared(&mut browser);
    browser.screenshot("live-compare.png");
    assert!(
        agent.asked().iter().any(|target| target == "/api/profile?from=1767218400000&to=1767225599000"),
        "{:?}",
        agent.asked()
    );
    assert_eq!(browser.text("#compare-functions tbody tr:first-child td:nth-child(4)"), "0");

    browser.open_url(&format!("http://{}/#view=health", agent.address));
    wait_until(&mut browser, "yes");
    browser.screenshot("live-health.png");
    let health = browser.text("#health");
    for words in [
        "bpf: it is allowed",
        "0.40 % of one CPU",
        "31.0 MB",
        "stacks cut",
        "/srv/orders",
        "3 windows arrived",
    ] {
        assert!(health.contains(words), "{words}: {health}");
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let own = format!("http://{}/", agent.address);
    let foreign: Vec<String> = browser
        .requested()
        .into_iter()
        .filter(|url| !url.starts_with(&own) && url != "about:blank")
        .collect();
    assert_eq!(foreign, Vec::<String>::new());
}

#[test]
fn an_agent_that_is_gone_is_said_to_be_gone_and_comes_back() {
    let Some(mut browser) = Browser::start("an_agent_that_is_gone_is_said_to_be_gone") else { return };
    let agent = StandIn::start();
    browser.dress(1280, 900, Theme::Light);
    browser.open_url(&format!("http://{}/", agent.address));
    wait_until(&mut browser, "yes");
    agent.is_there.store(false, Ordering::SeqCst);
    browser.evaluate("(() => { const s = document.querySelector('#range select'); s.value = 'all'; s.dispatchEvent(new Event('change')); })()");
    wait_until(&mut browser, "gone");
    browser.screenshot("gone.png");
    assert!(browser.text("#failure").contains("The agent does not answer"), "{}", browser.text("#failure"));
    assert!(browser.text("#destinations").contains("orders.created"), "what was loaded stays");
    agent.is_there.store(true, Ordering::SeqCst);
    let before = agent.profiles.load(Ordering::SeqCst);
    browser.evaluate("(() => { const s = document.querySelector('#range select'); s.value = '60'; s.dispatchEvent(new Event('change')); })()");
    wait_until(&mut browser, "yes");
    assert!(browser.evaluate("document.querySelector('#failure').hidden").as_bool().unwrap());
    assert!(agent.profiles.load(Ordering::SeqCst) > before);
}

#[test]
fn a_page_without_any_data_waits_quietly() {
    let Some(mut browser) = Browser::start("a_page_without_any_data_waits_quietly") else { return };
    let file = tempfile::Builder::new().suffix(".html").tempfile().expect("a file");
    std::fs::write(file.path(), live().html).expect("written");
    browser.dress(1280, 900, Theme::Light);
    browser.open(file.path(), "");
    wait_until(&mut browser, "gone");
    assert!(browser.text("#failure").contains("spanprof attach"), "{}", browser.text("#failure"));
}
