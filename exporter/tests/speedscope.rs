//! speedscope, the flame graph viewer from npm, opens our files in a real browser, and its schema accepts them.

#[path = "page/browser.rs"]
#[allow(dead_code)]
mod browser;
mod fixture;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use browser::{Browser, Theme};
use serde_json::{Value, json};
use spanprof_exporter::pprof::encode;
use spanprof_exporter::{
    Profile, SampleFilter, SampleKind, SpanFacts, SpanIds, SpanRef, ToldSpan, WokenBy, speedscope,
};

const PACKAGE: &str = "speedscope@1.25.0";
/// What checks a file by the schema that comes with the viewer.
const VALIDATOR: &str = "ajv@8.20.0";

/// The viewer's page, from npm; kept in the target directory. None, with the reason, where it can't be had.
fn viewer(test: &str) -> Option<PathBuf> {
    // Two installations at once into one directory would take files from under each other's pages.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("speedscope");
    let page = directory.join("node_modules/speedscope/dist/release/index.html");
    let validator = directory.join("node_modules/ajv/package.json");
    if !page.exists() || !validator.exists() {
        std::fs::create_dir_all(&directory).expect("a directory for the package");
        let npm = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&directory)
            .args([PACKAGE, VALIDATOR])
            .output();
        let reason = match npm {
            Ok(output) if output.status.success() && page.exists() => return Some(page),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        eprintln!("NOT RUN: {test} needs {PACKAGE} by npm: {reason}");
        assert!(std::env::var_os("CI").is_none(), "{test} could not run, and CI must run it");
        return None;
    }
    Some(page)
}

/// Loads a file into speedscope and gives the text of its list of functions once that is there.
fn shown(browser: &mut Browser, page: &Path, name: &str, content: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("profile.js");
    let encoded = base64::engine::general_purpose::STANDARD.encode(content);
    // What speedscope's own command line hands to its page.
    let load = format!("speedscope.loadFileFromBase64({}, {})", json!(name), json!(encoded));
    std::fs::write(&script, load).unwrap();
    browser.dress(1280, 900, Theme::Light);
    browser.open_url(&format!(
        "file://{}#view=sandwich&localProfilePath={}",
        page.display(),
        script.display()
    ));
    let shown = browser.evaluate(
        "new Promise((done) => {
            const check = () => {
                const text = document.body.innerText;
                if (text.includes('start_thread')) done(text); else requestAnimationFrame(check);
            };
            check();
        })",
    );
    browser.screenshot(&format!("speedscope-{name}.png"));
    shown.as_str().unwrap().to_owned()
}

#[test]
fn speedscope_loads_the_pprof_file_and_shows_its_functions() {
    let test = "speedscope_loads_the_pprof_file_and_shows_its_functions";
    let Some(page) = viewer(test) else { return };
    let Some(mut browser) = Browser::start(test) else { return };
    let shown = shown(&mut browser, &page, "profile.pb.gz", &encode(&fixture::profile()));
    // Of the functions inlined into one another speedscope shows the outermost alone; that is its own limit.
    for expected in ["orders::parse", "orders::publish", "orders::handle", "36.00ms"] {
        assert!(shown.contains(expected), "{expected} is not in: {shown}");
    }
}

#[test]
fn speedscope_loads_its_own_format_and_its_schema_accepts_it() {
    let test = "speedscope_loads_its_own_format_and_its_schema_accepts_it";
    let Some(page) = viewer(test) else { return };
    let all = SampleFilter::default();
    let file = speedscope::encode(&fixture::profile_with_tasks(), None, &all, "orders").unwrap();
    let checked = Command::new("node")
        .args(["-e", CHECK, &file])
        .current_dir(page.ancestors().nth(5).expect("the directory of the packages"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let Some(mut browser) = Browser::start(test) else { return };
    let shown = shown(&mut browser, &page, "profile.speedscope.json", file.as_bytes());
    // Functions that were inlined are there too, and services stand at the roots.
    for expected in
        ["<core::str::Chars as Iterator>::next", "orders::parse", "[no stack]", "producer", "32.00ms"]
    {
        assert!(shown.contains(expected), "{expected} is not in: {shown}");
    }
}

const CHECK: &str = "
    const Ajv = require('ajv');
    const schema = require('./node_modules/speedscope/dist/release/file-format-schema.json');
    const check = new Ajv({ strict: false }).compile(schema);
    const accepts = (file) => check(file);
    const file = JSON.parse(process.argv[1]);
    if (!accepts(file)) throw new Error(JSON.stringify(check.errors));
    if (accepts({ ...file, shared: {} })) throw new Error('the check accepts anything');
";

#[test]
fn the_file_holds_each_kind_s_time_and_only_what_is_meant() {
    let profile = fixture::profile_with_tasks();
    let decoded = |kind, filter: &SampleFilter| -> Option<Value> {
        let file = speedscope::encode(&profile, kind, filter, "orders")?;
        Some(serde_json::from_str(&file).unwrap())
    };
    let whole = decoded(None, &SampleFilter::default()).unwrap();
    let totals = |file: &Value| -> Vec<(String, u64)> {
        let profiles = file["profiles"].as_array().unwrap().iter();
        profiles
            .map(|profile| {
                let weights = profile["weights"].as_array().unwrap().iter();
                let sum = weights.map(|weight| weight.as_u64().unwrap()).sum();
                assert_eq!(profile["endValue"], json!(sum));
                assert_eq!(
                    profile["weights"].as_array().unwrap().len(),
                    profile["samples"].as_array().unwrap().len()
                );
                (profile["name"].as_str().unwrap().to_owned(), sum)
            })
            .collect()
    };
    let expected = SampleKind::ALL.map(|kind| (kind.as_str().to_owned(), profile.total(kind)));
    assert_eq!(totals(&whole), expected.into_iter().filter(|(_, total)| *total > 0).collect::<Vec<_>>());
    let busy = decoded(Some(SampleKind::Cpu), &SampleFilter::span(fixture::BUSY_SPAN)).unwrap();
    assert_eq!(totals(&busy), [("cpu".to_owned(), 20_000_000)]);
    let frames: Vec<_> = busy["shared"]["frames"].as_array().unwrap().iter().collect();
    let root = frames[busy["profiles"][0]["samples"][0][0].as_u64().unwrap() as usize];
    assert_eq!(root["name"], "start_thread", "of one service alone its name says nothing");
    assert_eq!(decoded(Some(SampleKind::Unknown), &SampleFilter::default()), None);
}

#[test]
fn a_selected_part_has_its_samples_and_stacks_alone() {
    let mut profile = fixture::profile();
    for (span_id, wall) in [(fixture::SLOW_SPAN, 500), (fixture::BUSY_SPAN, 20)] {
        let span = SpanIds { trace_id: fixture::TRACE.into(), span_id: span_id.into() };
        let facts = SpanFacts { wall_ns: Some(wall), ..SpanFacts::default() };
        profile.span_facts.insert(span, facts);
        profile.wakers.insert(fixture::TRACE, span_id, vec![WokenBy::interrupt(wall)]);
        let span = SpanRef::parse(fixture::TRACE, span_id).unwrap();
        profile.relatives.insert(ToldSpan { span, ..ToldSpan::default() });
    }
    let part = profile.selected(&SampleFilter::span(fixture::SLOW_SPAN), Some(SampleKind::OffCpu));
    assert_eq!(part.total(SampleKind::OffCpu), 430_000_000);
    assert_eq!(part.samples().len(), 1);
    let (key, _) = part.samples()[0];
    let names: Vec<_> = part.stack(key.stack).iter().map(|location| part.location(*location)).collect();
    assert_eq!((names.len(), &*names[1].frames[2].function), (4, "orders::reserve"));
    assert_eq!(
        names[0].module.map(|module| &*part.modules()[module.index()].path),
        Some("/usr/lib/libc.so.6")
    );
    assert_eq!(part.facts(fixture::TRACE, fixture::SLOW_SPAN).unwrap().wall_ns, Some(500));
    assert_eq!(part.wakers.of(Some(fixture::TRACE), fixture::SLOW_SPAN), [WokenBy::interrupt(500)]);
    assert_eq!(
        (part.span_facts.len(), part.relatives.len()),
        (1, 2),
        "of its trace all, of another span nothing"
    );
    assert!(part.wakers.of(Some(fixture::TRACE), fixture::BUSY_SPAN).is_empty());
    assert_eq!(part.start_unix_nanoseconds, profile.start_unix_nanoseconds);
    let whole = profile.selected(&SampleFilter::default(), None);
    let totals = |profile: &Profile| SampleKind::ALL.map(|kind| profile.total(kind));
    assert_eq!((totals(&whole), whole.samples().len()), (totals(&profile), profile.samples().len()));
}
