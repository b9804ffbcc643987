//! What leads people to profiles: links, used as their pages would use them, and the files for a Grafana.
#![cfg(feature = "page")]

mod fixture;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fixture::{SLOW_SPAN, TRACE, profile_with_tasks};
use serde_json::Value;
use spanprof_exporter::links::{
    About, GrafanaSettings, LinkSettings, LinkValues, link_templates, profile_type,
};
use spanprof_exporter::pyroscope::{PyroscopeConfig, PyroscopeSink};
use spanprof_exporter::stand_in::{StandIn, StandInConfig};
use spanprof_exporter::{Profile, SampleKind, label};
use yaml_rust2::{Yaml, YamlLoader};

/// The nanoseconds of a kind under a span.
fn of_span(profile: &Profile, kind: SampleKind, span: &str) -> u64 {
    let is_of_span = |labels: &[spanprof_exporter::Label]| {
        labels.iter().any(|one| &*one.key == label::SPAN_ID && one.value.as_text() == Some(span))
    };
    let samples = profile.samples();
    let meant = samples
        .iter()
        .filter(|(key, _)| key.kind == kind && is_of_span(&profile.label_sets()[key.labels.index()]));
    meant.map(|(_, value)| value.nanoseconds).sum()
}

#[tokio::test]
async fn what_a_link_asks_for_is_the_span_s_profile() {
    let server = StandIn::start(StandInConfig::default()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut profile = profile_with_tasks();
    profile.start_unix_nanoseconds = now.as_nanos() as u64;
    PyroscopeSink::new(PyroscopeConfig::new(server.url())).unwrap().push(&profile).await;
    let grafana =
        GrafanaSettings { url: "https://grafana.test".into(), profiles: "pyroscope".into(), traces: None };
    let templates = link_templates(&LinkSettings { pyroscope: None, grafana: Some(grafana) }).unwrap();
    for kind in [SampleKind::Cpu, SampleKind::OffCpu] {
        let spans = [SLOW_SPAN];
        let values =
            LinkValues { spans: &spans, service: "consumer", kind: Some(kind), ..LinkValues::default() };
        let expected = of_span(&profile, kind, SLOW_SPAN);
        assert!(expected > 0);
        for template in templates.iter().filter(|template| template.about == About::Span) {
            let (type_id, selector, span) = asked_for(&template.fill(&values).unwrap());
            assert!(server.profile_types().contains(&type_id), "{type_id}");
            assert_eq!(selector, r#"{service_name="consumer"}"#);
            let stacks = server.stacks(&type_id, &span);
            assert_eq!(
                stacks.iter().map(|(_, value)| *value as u64).sum::<u64>(),
                expected,
                "{}",
                template.title
            );
        }
    }
    assert!(!server.trace_stacks(&profile_type(SampleKind::OffCpu), TRACE).is_empty());
}

/// A link's type, selector and span, as its page reads them.
fn asked_for(link: &str) -> (String, String, String) {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let query = link.split_once('?').unwrap().1;
    let mut read: HashMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (decoded(k), decoded(v)))
        .collect();
    let mut take = |name: &str| read.remove(name).unwrap_or_default();
    if link.contains("/a/grafana-pyroscope-app/") {
        let selector = format!("{{service_name={:?}}}", take("var-serviceName"));
        return (take("var-profileMetricId"), selector, take("var-spanSelector"));
    }
    let panes: Value = serde_json::from_str(&take("panes")).unwrap();
    let query = &panes["spanprof"]["queries"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&query["profileTypeId"]), text(&query["labelSelector"]), text(&query["spanSelector"][0]))
}

fn example(path: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/grafana").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &str) -> Yaml {
    YamlLoader::load_from_str(&example(path)).unwrap_or_else(|error| panic!("{path}: {error}")).remove(0)
}

#[test]
fn data_sources_are_whole_and_refer_to_each_other() {
    let file = yaml("provisioning/datasources/spanprof.yaml");
    let sources = file["datasources"].as_vec().unwrap();
    let text = |yaml: &Yaml| yaml.as_str().unwrap_or_default().to_owned();
    let types: HashMap<String, String> =
        sources.iter().map(|source| (text(&source["uid"]), text(&source["type"]))).collect();
    assert_eq!(types["pyroscope"], "grafana-pyroscope-datasource");
    assert_eq!((types["prometheus"].as_str(), types["tempo"].as_str()), ("prometheus", "tempo"));
    let tempo = sources.iter().find(|source| text(&source["uid"]) == "tempo").unwrap();
    let to_profiles = &tempo["jsonData"]["tracesToProfiles"];
    assert_eq!(text(&to_profiles["datasourceUid"]), "pyroscope");
    assert_eq!(text(&to_profiles["profileTypeId"]), profile_type(SampleKind::OffCpu));
    let folders = yaml("provisioning/dashboards/spanprof.yaml");
    assert_eq!(folders["providers"].as_vec().map(Vec::len), Some(1));
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(&example("dashboards/destinations.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
    let known = [
        "messaging_client_consumed_messages_total",
        "messaging_client_operation_duration_seconds_bucket",
        "messaging_client_sent_messages_total",
        "messaging_process_duration_seconds_bucket",
        "messaging_process_duration_seconds_count",
        "messaging_process_duration_seconds_sum",
    ];
    let mut asked = BTreeSet::new();
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let uid = target["datasource"]["uid"].as_str().unwrap();
        assert!(["prometheus", "pyroscope"].contains(&uid), "{uid}");
        match target["expr"].as_str() {
            Some(expression) => {
                let names = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                asked.extend(names.filter(|name| name.contains("_seconds") || name.ends_with("_total")));
            }
            None => assert_eq!(target["profileTypeId"].as_str(), Some(&*profile_type(SampleKind::OffCpu))),
        }
    }
    assert_eq!(asked, BTreeSet::from(known));
}
