//! Links as they are meant to be, and read back as a browser and Grafana would read them.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const SPAN: &str = "00f067aa0ba902b7";
const OTHER_SPAN: &str = "b7ad6b7169203331";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn settings() -> LinkSettings {
    let grafana = GrafanaSettings {
        url: "https://example.org/grafana/".into(),
        profiles: "pyroscope".into(),
        traces: Some("tempo".into()),
    };
    LinkSettings { pyroscope: Some("http://localhost:4040".into()), grafana: Some(grafana) }
}

fn values<'a>() -> LinkValues<'a> {
    LinkValues {
        spans: &[SPAN],
        trace: TRACE,
        service: "billing",
        destination: "orders",
        kind: Some(SampleKind::OffCpu),
        from: 1_795_505_400_000,
        to: 1_795_505_410_000,
    }
}

fn link(title: &str, about: About, values: &LinkValues<'_>) -> String {
    let templates = link_templates(&settings()).expect("they can be linked to");
    let template = templates.iter().find(|template| template.title == title && template.about == about);
    template.expect("there is one").fill(values).expect("all ids are ids")
}

/// The parameters of a link, as a browser reads them.
fn parameters(link: &str) -> HashMap<String, String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().expect("it is text").into_owned();
    let query = link.split_once('?').expect("there are parameters").1;
    let pairs = query.split('&').map(|pair| pair.split_once('=').expect("a pair"));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// The one pane's range and query.
fn explored(link: &str) -> (Value, Value) {
    let panes: Value = serde_json::from_str(&parameters(link)["panes"]).expect("panes are JSON");
    let pane = &panes["spanprof"];
    assert_eq!(pane["queries"].as_array().expect("a list").len(), 1);
    (pane["range"].clone(), pane["queries"][0].clone())
}

#[test]
fn links_are_what_they_were() {
    let links: Vec<String> = link_templates(&settings())
        .unwrap()
        .iter()
        .map(|template| format!("{:?}: {}", template.about, template.fill(&values()).unwrap()))
        .collect();
    let range = "range%22%3A%7B%22from%22%3A%221795505400000%22%2C%22to%22%3A%221795505410000%22%7D%7D%7D";
    let begin = "https://example.org/grafana/explore?schemaVersion=1&panes=%7B%22spanprof%22%3A%7B%22datasource%22%3A%22";
    let query = "pyroscope%22%2C%22queries%22%3A%5B%7B%22refId%22%3A%22A%22%2C%22datasource%22%3A%7B%22type%22%3A%22\
                 grafana-pyroscope-datasource%22%2C%22uid%22%3A%22pyroscope%22%7D%2C%22queryType%22%3A%22profile%22%2C%22\
                 profileTypeId%22%3A%22off_cpu%3Aoff_cpu%3Ananoseconds%3A%3A%22%2C%22labelSelector%22%3A%22";
    let drilldown = "https://example.org/grafana/a/grafana-pyroscope-app/explore?explorationType=flame-graph&\
                     var-dataSource=pyroscope&var-serviceName=billing&var-profileMetricId=\
                     off_cpu%3Aoff_cpu%3Ananoseconds%3A%3A&from=1795505400000&to=1795505410000";
    let of_service = "%7Bservice_name%3D%5C%22billing%5C%22";
    let spans =
        format!("%22groupBy%22%3A%5B%5D%2C%22spanSelector%22%3A%5B%22{SPAN}%22%5D%7D%5D%2C%22{range}");
    assert_eq!(
        links,
        [
            format!("Span: {drilldown}&var-spanSelector={SPAN}"),
            format!("Span: {begin}{query}{of_service}%7D%22%2C{spans}"),
            format!("Trace: {begin}{query}%7B%7D%22%2C{spans}"),
            format!(
                "TraceItself: {begin}tempo%22%2C%22queries%22%3A%5B%7B%22refId%22%3A%22A%22%2C%22datasource%22%3A%7B%22type\
                 %22%3A%22tempo%22%2C%22uid%22%3A%22tempo%22%7D%2C%22queryType%22%3A%22traceql%22%2C%22query%22%3A%22{TRACE}\
                 %22%7D%5D%2C%22{range}"
            ),
            format!("Destination: {drilldown}&var-filters=messaging_destination_name%7C%3D%7Corders"),
            format!(
                "Destination: {begin}{query}{of_service}%2Cmessaging_destination_name%3D%5C%22orders%5C%22%7D%22%2C%22\
                 groupBy%22%3A%5B%5D%7D%5D%2C%22{range}"
            ),
            format!("Service: {drilldown}"),
            "Service: http://localhost:4040/?query=off_cpu%3Aoff_cpu%3Ananoseconds%3A%3A%7Bservice_name%3D%22billing%22%7D\
             &from=1795505400000&until=1795505410000"
                .to_owned(),
        ]
    );
}

#[test]
fn several_spans_are_a_list_and_what_is_no_id_is_left_out() {
    let values = LinkValues { spans: &[SPAN, "\"]}", OTHER_SPAN, ""], ..values() };
    let (_, query) = explored(&link("Grafana Explore", About::Trace, &values));
    assert_eq!(query["spanSelector"], serde_json::json!([SPAN, OTHER_SPAN]));
    assert_eq!(query["labelSelector"], "{}");
    let parameters = parameters(&link("Grafana Profiles Drilldown", About::Span, &values));
    assert_eq!(parameters["var-spanSelector"], format!("{SPAN},{OTHER_SPAN}"));
}

#[test]
fn there_is_no_link_to_a_span_or_trace_without_an_id() {
    let none = LinkValues { spans: &["xyz"], trace: "7", ..values() };
    let about: Vec<About> = link_templates(&settings())
        .unwrap()
        .iter()
        .filter(|template| template.fill(&none).is_none())
        .map(|template| template.about)
        .collect();
    assert_eq!(about, [About::Span, About::Span, About::Trace, About::TraceItself]);
}

#[test]
fn settings_that_mean_something_else_are_refused() {
    for url in [
        "",
        "grafana",
        "javascript:alert(1)",
        "https://",
        "https:///x",
        "http://x/?a",
        "http://u:p@x",
        "http://{x}",
    ] {
        let settings = LinkSettings { pyroscope: Some(url.into()), grafana: None };
        assert_eq!(link_templates(&settings), Err(LinkError::Address(url.into())));
    }
    for uid in ["", "a b", "a\"b", "‹type›", &"a".repeat(41)] {
        let mut settings = settings();
        settings.grafana.as_mut().unwrap().profiles = uid.into();
        assert_eq!(link_templates(&settings), Err(LinkError::Uid(uid.into())));
    }
    assert_eq!(link_templates(&LinkSettings::default()), Ok(vec![]));
}

#[test]
fn types_are_named_as_the_sink_names_them() {
    assert_eq!(profile_type(SampleKind::Cpu), "process_cpu:cpu:nanoseconds:cpu:nanoseconds");
    assert_eq!(profile_type(SampleKind::RunQueue), "run_queue:run_queue:nanoseconds::");
}

proptest! {
    /// Whatever a service and a topic are called, they arrive as they are, and nothing else changes by them.
    #[test]
    fn hostile_names_arrive_as_they_are(
        service in "\\PC*|[\"\\\\{}<>'`|,#&%=\n\t ]*",
        destination in "\\PC*|[\"\\\\{}<>'`|,#&%=\n\t ]*",
    ) {
        let values = LinkValues { service: &service, destination: &destination, ..values() };
        let (range, query) = explored(&link("Grafana Explore", About::Destination, &values));
        prop_assert_eq!(&range["to"], "1795505410000");
        // Read as a selector is read: its strings are JSON's.
        let selector = query["labelSelector"].as_str().expect("it is text");
        let quoted = |text: &str| Value::from(text).to_string();
        let expected =
            format!("{{service_name={},messaging_destination_name={}}}", quoted(&service), quoted(&destination));
        prop_assert_eq!(selector, expected);

        let read = parameters(&link("Grafana Profiles Drilldown", About::Destination, &values));
        prop_assert_eq!(read.len(), 7);
        prop_assert_eq!(&read["var-serviceName"], &service);
        let filter: Vec<&str> = read["var-filters"].split('|').collect();
        prop_assert_eq!(filter.len(), 3);
        let escaped = filter[2].replace("__gfp__", "|").replace("__gfc__", ",").replace("__gfh__", "#");
        prop_assert_eq!(&escaped, &destination);
        let page = parameters(&link("Pyroscope", About::Service, &values));
        prop_assert_eq!(&page["query"], &format!("off_cpu:off_cpu:nanoseconds::{{service_name={}}}", quoted(&service)));
    }
}
