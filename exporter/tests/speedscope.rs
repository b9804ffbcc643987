//! speedscope, the flame graph viewer from npm, opens our files in a real browser.

#[path = "page/browser.rs"]
#[allow(dead_code)]
mod browser;
mod fixture;

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use browser::{Browser, Theme};
use serde_json::json;
use spanprof_exporter::pprof::encode;

const PACKAGE: &str = "speedscope@1.25.0";

/// The viewer's page, from npm; kept in the target directory. None, with the reason, where it can't be had.
fn speedscope(test: &str) -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("speedscope");
    let page = directory.join("node_modules/speedscope/dist/release/index.html");
    if !page.exists() {
        std::fs::create_dir_all(&directory).expect("a directory for the package");
        let npm = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&directory)
            .arg(PACKAGE)
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

#[test]
fn speedscope_loads_the_file_and_shows_its_functions() {
    let test = "speedscope_loads_the_file_and_shows_its_functions";
    let Some(page) = speedscope(test) else { return };
    let Some(mut browser) = Browser::start(test) else { return };
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("profile.js");
    let encoded = base64::engine::general_purpose::STANDARD.encode(encode(&fixture::profile()));
    // What speedscope's own command line hands to its page.
    let load = format!("speedscope.loadFileFromBase64({}, {})", json!("profile.pb.gz"), json!(encoded));
    std::fs::write(&script, load).unwrap();
    browser.dress(1280, 900, Theme::Light);
    browser.open(&page, &format!("view=sandwich&localProfilePath={}", script.display()));
    let shown = browser.evaluate(
        "new Promise((done) => {
            const check = () => {
                const text = document.body.innerText;
                if (text.includes('start_thread')) done(text); else requestAnimationFrame(check);
            };
            check();
        })",
    );
    browser.screenshot("speedscope.png");
    let shown = shown.as_str().unwrap();
    // Of the functions inlined into one another speedscope shows the outermost alone; that is its own limit.
    for expected in ["orders::parse", "orders::publish", "orders::handle", "36.00ms"] {
        assert!(shown.contains(expected), "{expected} is not in: {shown}");
    }
}
