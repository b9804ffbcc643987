//! Which samples are meant: all, one trace's, one span's, one destination's or consumer group's.

use std::sync::Arc;

use crate::profile::{Label, LabelValue, Profile, label};

/// Chooses samples by their labels; the default chooses all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SampleFilter {
    /// Only samples of this trace (32 hex characters; case does not matter).
    pub trace_id: Option<String>,
    /// Only samples of this span (16 hex characters; case does not matter).
    pub span_id: Option<String>,
    /// Only samples of this topic or queue.
    pub destination: Option<String>,
    /// Only samples of this consumer group.
    pub consumer_group: Option<String>,
}

impl SampleFilter {
    /// Only the samples of one span.
    pub fn span(span_id: impl Into<String>) -> SampleFilter {
        SampleFilter { span_id: Some(span_id.into()), ..SampleFilter::default() }
    }

    /// Only the samples of one trace.
    pub fn trace(trace_id: impl Into<String>) -> SampleFilter {
        SampleFilter { trace_id: Some(trace_id.into()), ..SampleFilter::default() }
    }

    /// Whether a sample with these labels is meant.
    pub fn matches(&self, labels: &[Label]) -> bool {
        let meant = |key: &str, wanted: &Option<String>, same: fn(&str, &str) -> bool| match wanted {
            None => true,
            Some(wanted) => text(labels, key).is_some_and(|found| same(found, wanted)),
        };
        let (id, name) = (str::eq_ignore_ascii_case, |found: &str, wanted: &str| found == wanted);
        meant(label::TRACE_ID, &self.trace_id, id)
            && meant(label::SPAN_ID, &self.span_id, id)
            && meant(label::DESTINATION, &self.destination, name)
            && meant(label::CONSUMER_GROUP, &self.consumer_group, name)
    }

    /// The answer for each label set of a profile, by [`LabelSetId::index`](crate::LabelSetId::index):
    /// labels are compared once, not once per sample.
    pub(crate) fn over(&self, profile: &Profile) -> Vec<bool> {
        profile.label_sets().iter().map(|labels| self.matches(labels)).collect()
    }
}

/// The text of a label, where the set has it.
pub(crate) fn text<'a>(labels: &'a [Label], key: &str) -> Option<&'a str> {
    labels.iter().find(|label| &*label.key == key).and_then(|label| label.value.as_text())
}

/// The same, shared with the label.
pub(crate) fn shared_text(labels: &[Label], key: &str) -> Option<Arc<str>> {
    labels.iter().find(|label| &*label.key == key).and_then(|label| match &label.value {
        LabelValue::Text(text) => Some(Arc::clone(text)),
        LabelValue::Number(_) => None,
    })
}

/// The number of a label, where the set has it.
pub(crate) fn number(labels: &[Label], key: &str) -> Option<i64> {
    labels.iter().find(|label| &*label.key == key).and_then(|label| match label.value {
        LabelValue::Number(number) => Some(number),
        LabelValue::Text(_) => None,
    })
}

/// Whether an id is of the right length, all hex and not all zeros: what W3C Trace Context calls valid.
#[cfg(feature = "sinks")]
pub(crate) fn is_id(id: &str, length: usize) -> bool {
    id.len() == length
        && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        && id.bytes().any(|byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_match_in_any_case_and_unlabelled_samples_only_match_the_open_filter() {
        let labels = [Label::text(label::SPAN_ID, "00f067aa0ba902b7"), Label::text(label::TRACE_ID, "4bf9")];
        assert!(SampleFilter::default().matches(&[]));
        assert!(SampleFilter::span("00F067AA0BA902B7").matches(&labels));
        assert!(!SampleFilter::span("00f067aa0ba902b8").matches(&labels));
        assert!(!SampleFilter::span("00f067aa0ba902b7").matches(&[]));
        assert!(SampleFilter::trace("4bf9").matches(&labels));
        let orders = SampleFilter { destination: Some("orders".into()), ..SampleFilter::default() };
        assert!(orders.matches(&[Label::text(label::DESTINATION, "orders")]));
        assert!(!orders.matches(&[Label::text(label::DESTINATION, "Orders")]), "topics differ by case");
        assert!(!orders.matches(&labels));
        let number = [Label::number(label::SPAN_ID, 7)];
        assert!(!SampleFilter::span("7").matches(&number));
    }
}
