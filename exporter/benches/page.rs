//! How fast the page is with a large window: 50,000 frames, 3,000 spans, in a headless Chromium.
//!
//! Prints milliseconds; nothing is asserted, because a loaded machine would fail it for nothing. Run it with
//! `cargo bench -p spanprof-exporter --bench page`.

#[path = "../tests/page/browser.rs"]
#[allow(dead_code)]
mod browser;
#[path = "../tests/page/sample.rs"]
#[allow(dead_code)]
mod sample;

use std::time::Instant;

use browser::{Browser, Theme};
use serde_json::json;
use spanprof_exporter::page::{PageDetails, render};

const FRAMES: usize = 50_000;
const ROUNDS: usize = 11;

/// From a call in the page to the end of the drawing that it asked for.
const TIMED: &str = "async (act) => { const from = performance.now(); act(); \
    await new Promise((done) => requestAnimationFrame(done)); return performance.now() - from; }";

fn main() {
    let Some(mut browser) = Browser::start("the benchmark of the page") else { return };
    let profile = sample::wide(FRAMES);
    let started = Instant::now();
    let page = render(&profile, &PageDetails::default());
    println!(
        "render               {:8.1} ms, {} KB",
        started.elapsed().as_secs_f64() * 1e3,
        page.len() / 1024
    );
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report.html");
    std::fs::write(&file, page).expect("the page is written");
    browser.dress(1440, 1000, Theme::Light);
    browser.call("Performance.enable", json!({ "timeDomain": "threadTicks" }));

    let paint = "new Promise((done) => new PerformanceObserver((list) => { \
        const [paint] = list.getEntriesByName('first-contentful-paint'); if (paint) done(paint.startTime); \
        }).observe({ type: 'paint', buffered: true }))";
    let mut paints = Vec::new();
    let mut drawn = Vec::new();
    for _ in 0..ROUNDS {
        browser.open(&file, "view=all");
        paints.push(browser.evaluate(paint).as_f64().expect("a time"));
        drawn.push(
            browser.evaluate("performance.getEntriesByName('drawn')[0].startTime").as_f64().expect("a time"),
        );
    }
    print("first paint", paints);
    print("all is drawn", drawn);
    let press = |key: &str| {
        format!(
            "document.querySelector('canvas').dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))"
        )
    };
    let steps = [
        ("zoom in", format!("{}; {}", press("ArrowDown"), press("Enter"))),
        ("zoom out", press("Escape")),
        ("search", "(() => { const s = document.querySelector('#search'); s.value = s.value ? '' : 'module_7'; s.dispatchEvent(new Event('input')); })()".into()),
        ("runtime frames", "document.querySelector('#hide-runtime').click()".into()),
        ("one kind", "document.querySelector('.kind:not(:has(:checked)) input').click()".into()),
        ("one span", "document.querySelector('#spans tbody tr:not(.current) th').click()".into()),
        ("destinations", "document.querySelector('#views a').click()".into()),
        ("compare", "document.querySelectorAll('#views a')[3].click()".into()),
    ];
    let mut times = vec![Vec::new(); steps.len()];
    let mut busy = vec![Vec::new(); steps.len()];
    for _ in 0..ROUNDS {
        for (step, (_, act)) in steps.iter().enumerate() {
            let before = cpu_milliseconds(&mut browser);
            let time = browser.evaluate(&format!("({TIMED})(() => {{ {act} }})"));
            times[step].push(time.as_f64().expect("a time"));
            browser.settle();
            busy[step].push(cpu_milliseconds(&mut browser) - before);
        }
        browser.evaluate("document.querySelectorAll('#views a')[2].click()");
        browser.settle();
    }
    for (((name, _), times), busy) in steps.iter().zip(times).zip(busy) {
        print(name, times);
        print("  CPU of the page", busy);
    }
}

/// What the page's main thread used so far: on a loaded machine this tells more than the clock.
fn cpu_milliseconds(browser: &mut Browser) -> f64 {
    let metrics = browser.call("Performance.getMetrics", json!({}));
    let metrics = metrics["metrics"].as_array().expect("metrics");
    let tasks = metrics.iter().find(|metric| metric["name"] == "TaskDuration").expect("the time of tasks");
    1e3 * tasks["value"].as_f64().expect("seconds")
}

fn print(name: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    println!("{name:<20} {:8.1} ms, worst {:.1} ms", times[times.len() / 2], times[times.len() - 1]);
}
