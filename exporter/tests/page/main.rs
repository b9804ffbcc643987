//! The page in a real browser: what a person clicks, types and sees.
//!
//! Set `SPANPROF_SCREENSHOTS` to a directory to keep pictures of each state.

mod browser;
mod live;
mod sample;
mod views;

use std::path::PathBuf;

use browser::{Browser, Theme};
use serde_json::json;
use spanprof_exporter::page::{Loss, LossAmount, PageDetails, render};
use spanprof_exporter::{Profile, SampleKind};

/// A page on disk, gone when dropped.
struct Report {
    _directory: tempfile::TempDir,
    file: PathBuf,
}

fn report(profile: &Profile, details: &PageDetails) -> Report {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("report.html");
    std::fs::write(&file, render(profile, details)).expect("the page is written");
    Report { _directory: directory, file }
}

fn details() -> PageDetails {
    let loss = |cause: &str, amount| Loss { cause: cause.into(), amount };
    PageDetails {
        title: String::new(),
        source: "spanprof record --name orders --seconds 10".into(),
        losses: vec![
            loss("samples had no room in the ring buffer", LossAmount::Count(0)),
            loss("stacks were cut at 1,000 frames", LossAmount::Count(3)),
            loss("on CPU fell between samples", LossAmount::Nanoseconds(28_126_053)),
        ],
        ..PageDetails::default()
    }
}

/// The number of milliseconds in a text such as `1,234.5 ms` or `12.3 s`.
fn milliseconds(text: &str) -> f64 {
    let number: f64 = text.split(' ').next().unwrap().replace(',', "").parse().unwrap();
    if text.ends_with(" ms") { number } else { number * 1000.0 }
}

/// The top left corner of the flame graph, in pixels of the window.
fn corner(browser: &mut Browser) -> (f64, f64) {
    let corner = browser.evaluate(
        "(() => { const b = document.querySelector('canvas').getBoundingClientRect(); return [b.x, b.y]; })()",
    );
    (corner[0].as_f64().expect("an x"), corner[1].as_f64().expect("a y"))
}

/// What the tooltip says of the flame graph's root.
fn root_tooltip(browser: &mut Browser) -> String {
    browser.evaluate("document.querySelector('.chart').scrollIntoView()");
    let (x, y) = corner(browser);
    browser.move_to(x + 30.0, y + 100.0);
    browser.move_to(x + 30.0, y + 5.0);
    browser.text("#tooltip")
}

/// Asserts that nothing failed in the page and that it asked for nothing but itself.
fn assert_quiet(browser: &mut Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let foreign: Vec<_> =
        browser.requested().into_iter().filter(|address| !address.starts_with("file://")).collect();
    assert!(foreign.iter().all(|address| address == "about:blank"), "the page asked for {foreign:?}");
}

#[test]
fn a_click_on_a_span_shows_its_flame_graph_alone_and_a_button_leads_back() {
    let Some(mut browser) = Browser::start("a_click_on_a_span_shows_its_flame_graph_alone") else { return };
    let profile = sample::orders();
    let report = report(&profile, &details());
    browser.dress(1440, 1000, Theme::Light);
    browser.open(&report.file, "view=all");
    browser.screenshot("light.png");
    let all: u64 = SampleKind::ALL.iter().map(|kind| profile.total(*kind)).sum();
    let shown = milliseconds(&browser.text(".kind.all .amount"));
    assert!((shown - all as f64 / 1e6).abs() <= all as f64 / 1e6 * 0.01, "{shown} ms of {all} ns");
    assert_eq!(browser.evaluate("document.querySelectorAll('#spans tbody tr').length"), 61);

    browser.click("#spans tbody tr:first-child td.col-name");
    browser.screenshot("span.png");
    assert!(browser.text("#selection").contains(sample::LOCKED_SPAN));
    assert!(browser.text("#flame-heading").contains("process orders.created"));
    assert_eq!(milliseconds(&browser.text(".kind.all .amount")), 480.3);
    assert_eq!(milliseconds(&browser.text(".kind.off_cpu .amount")), 430.0);
    assert!(browser.evaluate("location.hash").as_str().unwrap().contains(sample::LOCKED_SPAN));

    browser.click("#show-all");
    assert!(browser.text("#messages").contains(sample::LOCKED_SPAN), "the list of messages");
    browser.evaluate("history.back()");
    browser.settle();
    assert!(
        browser.text("#selection").contains(sample::LOCKED_SPAN),
        "the back button leads back to the span"
    );
    assert_quiet(&mut browser);
}

#[test]
fn times_of_tasks_are_kinds_of_their_own_and_only_where_there_are_some() {
    let Some(mut browser) = Browser::start("times_of_tasks_are_kinds_of_their_own") else { return };
    browser.dress(1440, 1000, Theme::Light);
    let without = report(&sample::orders(), &details());
    browser.open(&without.file, "view=all");
    assert_eq!(browser.evaluate("document.querySelectorAll('#kinds .kind').length"), 4);
    assert_eq!(browser.evaluate("document.querySelectorAll('#spans th button').length"), 9);
    assert_eq!(browser.text("#spans tbody tr:first-child td.col-wait"), "lock");

    let with = report(&sample::with_tasks(), &details());
    browser.open(&with.file, &format!("span={}", sample::LOCKED_SPAN));
    browser.screenshot("tasks.png");
    assert_eq!(browser.evaluate("document.querySelectorAll('#kinds .kind').length"), 6);
    assert_eq!(milliseconds(&browser.text(".kind.all .amount")), 685.3);
    assert_eq!(milliseconds(&browser.text(".kind.suspended .amount")), 200.0);
    assert_eq!(milliseconds(&browser.text(".kind.ready .amount")), 5.0);
    browser.click(".kind.suspended input");
    assert!(root_tooltip(&mut browser).contains("200.0 ms"), "{}", root_tooltip(&mut browser));
    assert_eq!(browser.evaluate("document.querySelectorAll('#spans th button').length"), 11);
    assert_quiet(&mut browser);
}

#[test]
fn a_pasted_link_opens_the_same_view() {
    let Some(mut browser) = Browser::start("a_pasted_link_opens_the_same_view") else { return };
    let report = report(&sample::orders(), &details());
    browser.dress(1440, 1000, Theme::Dark);
    browser.open(
        &report.file,
        &format!("view=all&kind=off_cpu&span={}&q=reserve&root=bottom&sort=cpu", sample::LOCKED_SPAN),
    );
    browser.screenshot("link-dark.png");
    assert_eq!(browser.evaluate("document.querySelector('.kind.off_cpu input').checked"), true);
    assert_eq!(browser.evaluate("document.querySelector('#search').value"), "reserve");
    assert_eq!(browser.evaluate("document.querySelector('#flip').checked"), true);
    assert!(browser.text("#matches").contains("100 %"), "{}", browser.text("#matches"));
    let sorted = "document.querySelector('#spans th[aria-sort=descending]').innerText";
    assert!(browser.evaluate(sorted).as_str().unwrap().starts_with("On CPU"));
    browser.open(&report.file, "span=ffffffffffffffff");
    assert!(browser.text("#flame-heading").contains("no span ffffffffffffffff"));
    assert_quiet(&mut browser);
}

#[test]
fn search_tells_matches_and_their_share_of_the_time() {
    let Some(mut browser) = Browser::start("search_tells_matches_and_their_share") else { return };
    let report = report(&sample::orders(), &details());
    browser.dress(1440, 1000, Theme::Light);
    browser.open(&report.file, &format!("span={}", sample::LOCKED_SPAN));
    browser.press("/");
    browser.type_text("no such function");
    assert_eq!(browser.text("#matches"), "no match");
    browser.press("Escape");
    browser.type_text("inventory::RESERVE");
    browser.screenshot("search.png");
    // 430.0 of 480.3 ms.
    assert_eq!(browser.text("#matches"), "1 function in 1 frame · 89.5 % · 430.0 ms");
    browser.press("Escape");
    assert_eq!(browser.text("#matches"), "");
    assert_quiet(&mut browser);
}

#[test]
fn runtime_frames_are_hidden_until_they_are_asked_for() {
    let Some(mut browser) = Browser::start("runtime_frames_are_hidden_until_asked_for") else { return };
    let report = report(&sample::orders(), &details());
    browser.dress(1440, 1000, Theme::Dark);
    browser.open(&report.file, "q=tokio::runtime");
    let hidden_root = root_tooltip(&mut browser);
    let hidden = browser.evaluate("document.querySelector('.spacer').offsetHeight").as_f64().unwrap();
    assert!(browser.text("#matches").contains("hidden runtime frames"));
    browser.click("#hide-runtime");
    browser.screenshot("runtime-dark.png");
    let shown = browser.evaluate("document.querySelector('.spacer').offsetHeight").as_f64().unwrap();
    assert!(shown > 2.0 * hidden, "{shown} px with and {hidden} px without runtime frames");
    assert!(browser.text("#matches").contains("frames"), "{}", browser.text("#matches"));
    assert_eq!(root_tooltip(&mut browser), hidden_root, "hiding changes no sum");
    assert_quiet(&mut browser);
}

#[test]
fn idle_threads_are_hidden_until_they_are_asked_for_and_their_time_is_told() {
    let Some(mut browser) = Browser::start("idle_threads_are_hidden_until_they_are_asked_for") else {
        return;
    };
    let working: u64 = SampleKind::ALL.iter().map(|kind| sample::orders().total(*kind)).sum();
    let report = report(&sample::with_idle_threads(), &details());
    browser.dress(1440, 1000, Theme::Light);
    browser.open(&report.file, "view=all");
    browser.screenshot("idle.png");
    let shown = milliseconds(&browser.text(".kind.all .amount"));
    let near = |shown: f64, nanoseconds: u64| (shown - nanoseconds as f64 / 1e6).abs() < 60.0;
    assert!(near(shown, working), "{shown} ms of {working} ns");
    assert_eq!(browser.text(".kind.all .idle"), "78.6 s of idle threads hidden");
    assert_eq!(browser.text(".kind.off_cpu .idle"), "78.4 s of idle threads hidden");
    assert_eq!(browser.text(".kind.cpu .idle"), "");
    assert!(browser.text("#facts").contains(", 78.4 s of it idle"), "{}", browser.text("#facts"));
    assert!(root_tooltip(&mut browser).starts_with("everything but idle threads"));
    let pool = format!("thread=4242-{}", sample::POOL);
    let row = format!("#threads tbody tr:has(a[href*='{pool}'])");
    let columns = "document.querySelectorAll('#threads thead th').length";
    assert_eq!(browser.evaluate(columns), 10, "a column of its own for idle time");
    assert_eq!(browser.text(&format!("{row} td:nth-child(6)")), "0");
    assert_eq!(browser.text(&format!("{row} td:nth-child(10)")), "9,825.0");

    browser.click("#hide-idle");
    browser.screenshot("idle-shown.png");
    let everything = milliseconds(&browser.text(".kind.all .amount"));
    assert!(near(everything, working + 78_600_000_000), "{everything} ms");
    assert_eq!(browser.text(".kind.all .idle"), "78.6 s of it idle threads");
    assert_eq!(browser.text(&format!("{row} td:nth-child(6)")), "9,800.0");
    assert!(browser.evaluate("location.hash").as_str().unwrap().contains("idle=shown"));

    browser.open(&report.file, &pool);
    browser.screenshot("idle-thread.png");
    assert!(browser.text("#flame-empty").contains("9,825.0 ms of idle threads"));
    browser.open(&report.file, &format!("{pool}&idle=shown"));
    assert!(browser.evaluate("document.querySelector('#flame-empty').hidden").as_bool().unwrap());
    browser.dress(1024, 900, Theme::Light);
    browser.screenshot("idle-1024.png");
    let wider = browser.evaluate("document.documentElement.scrollWidth - innerWidth");
    assert_eq!(wider, 0, "the page fits 1024 pixels");
    assert_quiet(&mut browser);
}

#[test]
fn losses_are_told_in_units_that_people_read() {
    let Some(mut browser) = Browser::start("losses_are_told_in_units_that_people_read") else { return };
    let report = report(&sample::orders(), &details());
    browser.dress(1440, 1000, Theme::Light);
    browser.open(&report.file, "view=all");
    let lost = "3 stacks were cut at 1,000 frames; 28.13 ms on CPU fell between samples";
    assert!(browser.text("#facts").contains(lost), "{}", browser.text("#facts"));
    assert!(browser.text("#notes").contains("0 samples had no room in the ring buffer"));
    let idle_switch = "document.querySelector('#idle-switch').hidden";
    assert!(browser.evaluate(idle_switch).as_bool().unwrap(), "nothing to hide here");
    assert_quiet(&mut browser);
}

#[test]
fn the_flame_graph_is_used_by_pointer_and_by_keyboard() {
    let Some(mut browser) = Browser::start("the_flame_graph_is_used_by_pointer_and_by_keyboard") else {
        return;
    };
    let report = report(&sample::orders(), &details());
    browser.dress(1440, 1000, Theme::Dark);
    browser.open(&report.file, "view=all");
    let (x, y) = corner(&mut browser);
    // The third row below the root, where the widest function is.
    let (x, y) = (x + 40.0, y + 21.0 * 3.5);
    browser.move_to(x, y);
    browser.screenshot("dark.png");
    let tooltip = browser.text("#tooltip");
    assert!(tooltip.contains("orders::") && tooltip.contains("self") && tooltip.contains('%'), "{tooltip}");
    assert!(tooltip.contains("/srv/orders/src/"), "{tooltip}");
    browser.click_at(x, y);
    assert!(browser.text("#crumbs").contains("everything"));
    assert!(browser.evaluate("location.hash").as_str().unwrap().contains("zoom="));
    browser.press("ArrowDown");
    let focused = browser.text("#detail");
    assert!(focused.contains("ms"), "{focused}");
    browser.press("Enter");
    assert!(!browser.evaluate("document.querySelector('#copy').hidden").as_bool().unwrap());
    browser.screenshot("zoomed-dark.png");
    let permissions = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.call("Browser.grantPermissions", permissions);
    browser.press("c");
    let copied = browser.evaluate("navigator.clipboard.readText()");
    let expected = [
        "std::sync::poison::mutex::Mutex",
        "orders::inventory::Inventory::reserve (",
        "orders::consumer::process",
    ];
    for (line, start) in copied.as_str().expect("a text").lines().zip(expected) {
        assert!(line.trim_start_matches('<').starts_with(start), "{line} of {copied}");
    }
    assert_eq!(copied.as_str().expect("a text").lines().count(), 4);
    assert_eq!(browser.text("#copy"), "Copied");
    browser.press("Escape");
    assert!(browser.text("#crumbs").starts_with("Click a frame"));
    assert_quiet(&mut browser);
}

#[test]
fn tables_sort_filter_and_say_so_to_screen_readers() {
    let Some(mut browser) = Browser::start("tables_sort_filter_and_say_so_to_screen_readers") else { return };
    let report = report(&sample::orders(), &details());
    browser.dress(1024, 900, Theme::Light);
    browser.open(&report.file, "view=all");
    browser.screenshot("1024.png");
    let wider = browser.evaluate("document.documentElement.scrollWidth - innerWidth");
    assert_eq!(wider, 0, "the page fits 1024 pixels");
    assert!(
        browser.evaluate("document.querySelector('#spans caption').innerText.length").as_u64().unwrap() > 0
    );
    assert_eq!(browser.evaluate("document.querySelectorAll('#spans thead th:not([scope=col])').length"), 0);
    assert_eq!(browser.evaluate("document.querySelectorAll('#spans tbody tr > th[scope=row]').length"), 61);
    browser.click("#spans thead th:nth-child(4) button");
    assert_eq!(
        browser.evaluate("document.querySelector('#spans thead th:nth-child(4)').ariaSort"),
        "descending"
    );
    let first = browser.text("#spans tbody tr:first-child td:nth-child(4)");
    browser.screenshot("1024-table.png");
    browser.click("#spans thead th:nth-child(4) button");
    let last = browser.text("#spans tbody tr:last-child td:nth-child(4)");
    assert_eq!((first.as_str(), last.as_str()), ("265.0", "265.0"));
    browser.click("#filter");
    browser.type_text("socket charged");
    let rows = browser.evaluate("document.querySelectorAll('#spans tbody tr').length");
    assert_eq!(rows, 12);
    assert!(browser.text("#spans .status").contains("12 of 61"));
    browser.press("Escape");
    assert_eq!(browser.evaluate("document.querySelectorAll('#spans tbody tr').length"), 61);
    browser.click("#threads tbody tr:first-child td.col-of");
    assert!(browser.text("#flame-heading").contains("thread"));
    browser.screenshot("1024-thread.png");
    assert_quiet(&mut browser);
}

#[test]
fn an_empty_profile_says_in_words_why_it_is_empty() {
    let Some(mut browser) = Browser::start("an_empty_profile_says_in_words_why") else { return };
    let report = report(&Profile::default(), &PageDetails::default());
    browser.dress(1280, 800, Theme::Light);
    browser.open(&report.file, "view=all");
    browser.screenshot("empty.png");
    assert!(browser.text("#flame-empty").contains("No samples"));
    assert!(browser.text("#spans").contains("No thread published a span"));
    browser.click(".kind.off_cpu input");
    assert!(browser.text("#flame-empty").contains("No off-CPU samples"));
    assert_quiet(&mut browser);
}

#[test]
fn hostile_names_are_shown_as_text() {
    let Some(mut browser) = Browser::start("hostile_names_are_shown_as_text") else { return };
    let title = sample::HOSTILE[0].to_owned();
    let losses = vec![Loss { cause: sample::HOSTILE[1].into(), amount: LossAmount::Count(1) }];
    let details = PageDetails {
        title: title.clone(),
        source: sample::HOSTILE[2].into(),
        losses,
        ..PageDetails::default()
    };
    let report = report(&sample::hostile(), &details);
    browser.dress(1280, 900, Theme::Light);
    browser.open(&report.file, "view=all");
    browser.screenshot("hostile.png");
    assert_eq!(browser.text("#title"), title);
    assert_eq!(browser.evaluate("typeof window.owned"), "undefined");
    assert_eq!(browser.evaluate("document.images.length"), 0);
    assert_eq!(browser.evaluate("document.scripts.length"), 2);
    assert_eq!(browser.evaluate("document.querySelectorAll('#spans tbody tr').length"), 8);
    let table = browser.text("#spans");
    assert!(table.contains(sample::HOSTILE[1]) && table.contains("⟨U+202E⟩") && table.contains("␛[31m"));
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth - innerWidth"), 0);
    let highest = "Math.max(...[...document.querySelectorAll('tbody tr')].map((row) => row.offsetHeight))";
    assert!(
        browser.evaluate(highest).as_u64().unwrap() < 200,
        "a name of 64 KB takes no more than a few lines"
    );
    for row in 1..=8 {
        browser.click(&format!("#spans tbody tr:nth-child({row}) th"));
        assert!(!browser.evaluate("document.querySelector('#selection').hidden").as_bool().unwrap());
        assert_eq!(browser.evaluate("location.protocol"), "file:");
        browser.evaluate("history.back()");
        browser.settle();
    }
    browser.screenshot("hostile-after.png");
    assert_quiet(&mut browser);
}

#[test]
fn a_long_table_is_shown_in_portions() {
    let Some(mut browser) = Browser::start("a_long_table_is_shown_in_portions") else { return };
    let report = report(&sample::wide(20_000), &PageDetails::default());
    browser.dress(1440, 1000, Theme::Light);
    browser.open(&report.file, "view=all&root=bottom");
    browser.screenshot("wide.png");
    let count = "document.querySelectorAll('#spans tbody tr').length";
    assert_eq!(browser.evaluate(count), 500);
    browser.click("#spans .more button");
    assert_eq!(browser.evaluate(count), 1000);
    assert!(browser.text("#spans .status").starts_with("1,000 of "));
    assert_quiet(&mut browser);
}

#[test]
fn a_profile_without_spans_says_how_to_get_them() {
    let Some(mut browser) = Browser::start("a_profile_without_spans_says_how_to_get_them") else { return };
    let mut maker = sample::Maker::default();
    let stack = maker.stack(&["main", "orders::parsing::decode_order"]);
    let labels = maker.labels(&[], 1);
    maker.add(stack, labels, SampleKind::Cpu, 5_000_000);
    let report = report(&maker.profile, &PageDetails::default());
    browser.dress(1440, 1000, Theme::Light);
    browser.open(&report.file, "view=all");
    assert!(browser.text("#spans").contains("No thread published a span"));
    assert!(browser.text("#threads").contains("thread 1"));
    assert!(browser.evaluate("document.querySelector('#flame-empty').hidden").as_bool().unwrap());
    browser.click(".kind.run_queue input");
    assert!(browser.text("#flame-empty").contains("No run-queue time"));
    assert_quiet(&mut browser);
}
