//! The views: from the front to the function that was slow, the list, the comparison, the profiler's health.

use serde_json::json;
use spanprof_exporter::links::{About, GrafanaSettings, LinkSettings, LinkValues, link_templates};
use spanprof_exporter::page::PageDetails;

use spanprof_exporter::{
    LabelValue, Profile, SampleKind, SpanClass, SpanFacts, SpanKind, SpanRef, ToldSpan, label,
};

use super::browser::{Browser, Theme};
use super::{assert_quiet, details, report, sample};

/// How many rows a table shows.
fn rows(browser: &mut Browser, table: &str) -> u64 {
    let expression = format!("document.querySelectorAll('{table} tbody tr').length");
    browser.evaluate(&expression).as_u64().expect("a number")
}

/// The names of the frames that the flame graph has, which is drawn and holds no text.
fn is_in_flame_graph(browser: &mut Browser, function: &str) -> bool {
    let search = format!(
        "(() => {{ const box = document.querySelector('#search'); box.value = {}; \
         box.dispatchEvent(new Event('input')); }})()",
        json!(function)
    );
    browser.evaluate(&search);
    browser.settle();
    !browser.text("#matches").starts_with("no match") && !browser.text("#matches").is_empty()
}

#[test]
fn two_clicks_lead_from_the_front_to_the_function_that_was_slow() {
    let Some(mut browser) = Browser::start("two_clicks_lead_from_the_front_to_the_function") else { return };
    let report = report(&sample::orders_with_slow_ones(), &details());
    for (theme, name) in [(Theme::Light, "front.png"), (Theme::Dark, "front-dark.png")] {
        browser.dress(1280, 900, theme);
        browser.open(&report.file, "");
        browser.screenshot(name);
    }
    // What was folded names no group.
    assert_eq!(rows(&mut browser, "#destinations"), 2, "{}", browser.text("#destinations"));
    let row = browser.text("#destinations tbody tr:first-child");
    assert!(row.contains("orders.created") && row.contains("group billing"), "{row}");
    assert!(row.contains("off CPU"), "the largest kinds in words: {row}");
    assert_eq!(browser.text("#slowest-heading"), "Slowest messages");
    browser.click("#slowest tbody tr:first-child td.col-name");
    browser.screenshot("message-dark.png");
    let chosen = browser.text("#selection");
    assert!(chosen.contains("waiting for a lock in orders::inventory::Inventory::reserve"), "{chosen}");
    assert!(chosen.contains(sample::LOCKED_SPAN) && chosen.contains("slow"), "{chosen}");
    assert!(is_in_flame_graph(&mut browser, "orders::inventory"));
    assert_quiet(&mut browser);
}

#[test]
fn the_list_of_messages_is_narrowed_by_destination_group_cause_and_text() {
    let Some(mut browser) = Browser::start("the_list_of_messages_is_narrowed") else { return };
    let report = report(&sample::orders_with_slow_ones(), &details());
    browser.dress(1024, 800, Theme::Light);
    browser.open(&report.file, "view=messages");
    browser.screenshot("messages-1024.png");
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth - innerWidth"), 0);
    let slow = rows(&mut browser, "#messages");
    assert!(slow > 0 && slow < 60, "{slow} of 60");
    browser.click("#show-normal");
    assert_eq!(rows(&mut browser, "#messages"), 60);
    browser.evaluate(
        "(() => { const s = document.querySelector('#filter-wait'); s.value = 'socket'; s.dispatchEvent(new Event('change')); })()",
    );
    browser.settle();
    assert_eq!(rows(&mut browser, "#messages"), 12);
    assert!(browser.evaluate("location.hash").as_str().unwrap().contains("wait=socket"));
    browser.click("#message-filter");
    browser.type_text("no such message");
    assert!(browser.text("#messages").contains("Nothing here matches"));
    browser.press("Escape");
    assert_eq!(rows(&mut browser, "#messages"), 12);
    assert_quiet(&mut browser);
}

#[test]
fn slow_messages_beside_normal_ones_show_what_is_more() {
    let Some(mut browser) = Browser::start("slow_messages_beside_normal_ones") else { return };
    let report = report(&sample::orders_with_slow_ones(), &details());
    for (theme, name) in [(Theme::Light, "compare.png"), (Theme::Dark, "compare-dark.png")] {
        browser.dress(1280, 1000, theme);
        browser.open(&report.file, "view=compare");
        browser.screenshot(name);
    }
    let first = browser.text("#compare-waits tbody tr:first-child");
    assert!(first.starts_with("lock") && first.contains('+'), "{first}");
    let function = browser.text("#compare-functions tbody tr:first-child");
    assert!(function.contains('+'), "{function}");
    assert!(browser.text("#compare-words").contains("normal one"), "{}", browser.text("#compare-words"));
    // To the function in the picture, by its row.
    let count = rows(&mut browser, "#compare-functions");
    assert!(count > 3, "{count}");
    browser.click("#compare-functions tbody tr:first-child td.number");
    assert!(browser.text("#matches").contains("function"), "{}", browser.text("#matches"));
    browser.open(&report.file, "view=all");
    browser.open(&report.file, "view=compare&runtime=shown");
    assert!(browser.text("#flame-heading").contains("red is more"));
    assert_quiet(&mut browser);
}

#[test]
fn without_slow_ones_the_views_say_what_they_wait_for() {
    let Some(mut browser) = Browser::start("without_slow_ones_the_views_say") else { return };
    let report = report(&Profile::default(), &PageDetails::default());
    browser.dress(1280, 800, Theme::Light);
    browser.open(&report.file, "");
    browser.screenshot("front-empty.png");
    assert!(browser.text("#destinations").contains("No thread published a span"));
    assert!(browser.text("#slowest").contains("No message was seen"));
    browser.open(&report.file, "view=compare");
    assert!(browser.text("#compare-words").contains("Nothing to compare yet"));
    browser.open(&report.file, "view=health");
    browser.screenshot("health-empty.png");
    assert!(browser.text("#health").contains("Nothing was lost"));
    assert_quiet(&mut browser);
}

#[test]
fn the_profilers_health_tells_each_loss() {
    let Some(mut browser) = Browser::start("the_profilers_health_tells_each_loss") else { return };
    let report = report(&sample::orders(), &details());
    browser.dress(1280, 800, Theme::Light);
    browser.open(&report.file, "view=health");
    browser.screenshot("health.png");
    let health = browser.text("#health");
    for words in
        ["stacks were cut at 1,000 frames", "28.13 ms", "spanprof record --name orders", "capture by BPF"]
    {
        assert!(health.contains(words), "{words}: {health}");
    }
    assert_eq!(rows(&mut browser, "#health"), 3);
    assert_quiet(&mut browser);
}

/// All that a hostile service can name: its topic, its group, its span.
#[test]
fn a_script_in_a_topics_name_is_shown_as_text_in_every_view() {
    let Some(mut browser) = Browser::start("a_script_in_a_topics_name_is_shown_as_text") else { return };
    let topic = "</script><img src=x onerror=owned=1>\"'&{{data}}\u{202e}";
    let mut maker = sample::Maker::default();
    let stack = maker.stack(&["main", topic]);
    for (span, kept) in [("00000000000000b1", Some("slow")), ("00000000000000b2", None)] {
        let mut labels = vec![
            (label::SPAN_ID, span),
            (label::TRACE_ID, topic),
            (label::DESTINATION, topic),
            (label::CONSUMER_GROUP, topic),
            (label::OPERATION, topic),
            (label::SERVICE_NAME, topic),
            (label::WAIT, topic),
        ];
        labels.extend(kept.map(|kept| (label::KEPT, kept)));
        let labels = maker.labels(&labels, 1);
        maker.add(stack, labels, SampleKind::OffCpu, 5_000_000);
    }
    assert!(
        maker.profile.label_sets().iter().flatten().any(|each| each.value == LabelValue::Text(topic.into()))
    );
    let report = report(&maker.profile, &PageDetails::default());
    browser.dress(1024, 800, Theme::Light);
    for view in ["overview", "messages", "message&span=00000000000000b1", "all", "compare", "health"] {
        browser.open(&report.file, &format!("view={view}"));
        assert_eq!(browser.evaluate("typeof window.owned"), "undefined", "{view}");
        assert_eq!(browser.evaluate("document.images.length"), 0, "{view}");
        assert_eq!(browser.evaluate("document.documentElement.scrollWidth - innerWidth"), 0, "{view}");
        if view != "health" {
            assert!(browser.text("body").contains("onerror=owned=1"), "{view}");
        }
    }
    browser.open(&report.file, "view=overview");
    browser.screenshot("front-hostile.png");
    browser.click("#destinations tbody tr a");
    assert!(browser.text("#messages-heading").contains("</script>"));
    assert_quiet(&mut browser);
}

/// The locked message as its tracers told it: sent, received with a neighbour, processed.
fn told(profile: &mut Profile) {
    let begin = profile.start_unix_nanoseconds;
    let (trace, neighbour) = ("4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c");
    let span = |trace: &str, span: &str| SpanRef::parse(trace, span).expect("ids");
    let (sent, process) = (span(trace, "00000000000000f1"), span(trace, sample::LOCKED_SPAN));
    let (other, batch) = (span(neighbour, "00000000000000f2"), span(neighbour, "00000000000000f3"));
    let class = |name: &str, service: &str| SpanClass {
        service: service.into(),
        name: name.into(),
        destination: "orders.created".into(),
        ..SpanClass::default()
    };
    for (span, parent, kind, class, at, wall, failed, links) in [
        (sent, None, SpanKind::Producer, class("send orders.created", "shop"), 0, 2_000_000, false, vec![]),
        (
            batch,
            None,
            SpanKind::Client,
            class("receive orders.created", "orders"),
            3_000_000,
            1_000_000,
            false,
            vec![sent, other],
        ),
        (
            process,
            Some(sent),
            SpanKind::Consumer,
            class("process orders.created", "orders"),
            5_000_000,
            490_000_000,
            true,
            vec![],
        ),
    ] {
        profile.relatives.insert(ToldSpan {
            span,
            parent_id: parent.map(|parent| parent.span_id),
            kind,
            class,
            begin_unix_ns: begin + at,
            wall_ns: wall,
            failed,
            links,
            ..ToldSpan::default()
        });
    }
    let facts = SpanFacts {
        begin_unix_ns: Some(begin + 5_000_000),
        wall_ns: Some(490_000_000),
        batch_size: 2,
        head_of_line_ns: 7_000_000,
        ..SpanFacts::default()
    };
    profile.span_facts.insert(process.into(), facts);
}

#[test]
fn a_message_is_shown_in_its_trace_with_what_adds_up_to_its_time() {
    let Some(mut browser) = Browser::start("a_message_is_shown_in_its_trace") else { return };
    let mut profile = sample::orders_with_slow_ones();
    told(&mut profile);
    let report = report(&profile, &details());
    browser.dress(1280, 1100, Theme::Light);
    browser.open(&report.file, &format!("span={}", sample::LOCKED_SPAN));
    browser.evaluate("document.querySelector('#trace-section').scrollIntoView({ block: 'end' })");
    browser.screenshot("trace.png");
    let equation = browser.text("#equation");
    assert!(equation.starts_with("490.0 ms = ") && equation.contains("430.0 ms off CPU"), "{equation}");
    assert!(equation.contains("98.0 % accounted for"), "{equation}");
    let selection = browser.text("#selection");
    assert!(selection.contains("2 messages in one poll; waited 7.00 ms for those before it"), "{selection}");
    assert!(selection.contains("00:00:00.005"), "{selection}");
    let lines: Vec<String> =
        (1..=3).map(|row| browser.text(&format!("#trace tbody tr:nth-child({row})"))).collect();
    assert_eq!(rows(&mut browser, "#trace"), 3, "{lines:?}");
    assert!(lines[0].contains("send orders.created") && lines[0].contains("producer · shop"), "{lines:?}");
    assert!(lines[1].contains("another trace"), "the poll that brought it: {lines:?}");
    assert!(lines[2].contains("490.0") && lines[2].contains("failed"), "{lines:?}");
    assert_quiet(&mut browser);
}

#[test]
fn a_message_and_a_destination_link_to_grafana_as_the_exporter_does() {
    let Some(mut browser) = Browser::start("a_message_and_a_destination_link_to_grafana") else { return };
    let grafana = GrafanaSettings {
        url: "https://grafana.example.org".into(),
        profiles: "pyroscope".into(),
        traces: Some("tempo".into()),
    };
    let links = link_templates(&LinkSettings { pyroscope: None, grafana: Some(grafana) }).expect("templates");
    let report = report(&sample::orders_with_slow_ones(), &PageDetails { links: links.clone(), ..details() });
    browser.dress(1280, 900, Theme::Light);
    browser.open(&report.file, &format!("span={}", sample::LOCKED_SPAN));
    browser.screenshot("links.png");
    let trace = format!("{:032x}", 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128);
    let values = LinkValues {
        spans: &[sample::LOCKED_SPAN],
        trace: &trace,
        service: "orders",
        destination: "orders.created",
        kind: Some(SampleKind::OffCpu),
        from: 1_767_225_600_000,
        to: 1_767_225_610_004,
    };
    let expected: Vec<String> = links.iter().filter_map(|link| link.fill(&values)).collect();
    let of = |browser: &mut Browser, selector: &str| {
        let all = format!("[...document.querySelectorAll('{selector} .links a')].map((link) => link.href)");
        let links = browser.evaluate(&all);
        links
            .as_array()
            .expect("links")
            .iter()
            .map(|link| link.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&mut browser, "#selection"), expected);
    browser.open(&report.file, "");
    let destination: Vec<String> = links
        .iter()
        .filter(|link| link.about == About::Destination)
        .filter_map(|link| link.fill(&values))
        .collect();
    assert_eq!(of(&mut browser, "#destinations tbody tr:first-child"), destination);
    assert_quiet(&mut browser);
}

#[test]
fn inverted_the_function_that_waited_comes_first_and_sums_stay() {
    let Some(mut browser) = Browser::start("inverted_the_function_that_waited_comes_first") else { return };
    let report = report(&sample::orders_with_slow_ones(), &details());
    browser.dress(1280, 900, Theme::Light);
    browser.open(&report.file, &format!("span={}&kind=off_cpu&runtime=shown", sample::LOCKED_SPAN));
    let total = browser.text(".kind.off_cpu .amount");
    browser.click("#invert");
    browser.screenshot("inverted.png");
    assert!(browser.evaluate("location.hash").as_str().unwrap().contains("invert=yes"));
    let corner = browser.evaluate("(() => { const b = document.querySelector('.chart').getBoundingClientRect(); return [b.x, b.y]; })()");
    let (x, y) = (corner[0].as_f64().unwrap(), corner[1].as_f64().unwrap());
    browser.click_at(x + 30.0, y + 31.0);
    let first = browser.text("#detail");
    assert!(
        first.contains("futex_wait") || first.contains("schedule") || first.contains("syscall"),
        "{first}"
    );
    assert!(first.contains(&total), "{total}: {first}");
    assert_quiet(&mut browser);
}
