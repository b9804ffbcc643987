//! Spans that a program has written as lines of JSON.

use std::collections::HashMap;

use serde_json::Value;

/// A span.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    /// Of those that it links to.
    pub(crate) links: Vec<(String, String)>,
    /// `send`, `process`, `settle`.
    pub(crate) operation: String,
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) error: Option<String>,
}

/// All of a text; what a killed program had not finished writing is left out.
pub(crate) fn read(text: &str) -> Vec<Told> {
    text.lines().filter_map(|line| Some(told(&serde_json::from_str(line).ok()?))).collect()
}

fn told(span: &Value) -> Told {
    let text = |value: &Value| value.as_str().expect("ids are text").to_owned();
    let attributes = span["attributes"].as_object().expect("there are attributes");
    let attributes: HashMap<_, _> =
        attributes.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    let links = span["links"].as_array().expect("there is a list of links");
    Told {
        trace: text(&span["trace_id"]),
        id: text(&span["span_id"]),
        parent: span["parent_span_id"].as_str().map(str::to_owned),
        links: links.iter().map(|link| (text(&link["trace_id"]), text(&link["span_id"]))).collect(),
        operation: attributes["messaging.operation.type"].clone(),
        attributes,
        error: span["error"].as_str().map(str::to_owned),
    }
}

/// Those of an operation, by their ids.
pub(crate) fn by_id(spans: &[Told], operation: &str) -> HashMap<String, Told> {
    let of_operation = spans.iter().filter(|span| span.operation == operation);
    of_operation.map(|span| (span.id.clone(), span.clone())).collect()
}
