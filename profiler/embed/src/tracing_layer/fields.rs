//! What a span's fields say of its ids and its message.

use std::fmt;
use std::sync::Arc;

use spanprof_context::{Attributes, SpanContext, SpanId, TraceId};
use tracing_core::field::{Field, Visit};

use super::Published;
use crate::messaging::Messaging;

/// What a span's fields say.
#[derive(Default)]
pub(super) struct Fields {
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
    flags: Option<u8>,
    messaging: Messaging,
}

impl Fields {
    pub(super) fn are_empty(&self) -> bool {
        self.trace_id.is_none() && self.span_id.is_none() && self.messaging.is_empty()
    }

    /// The ids that the fields name, else those of `otherwise`, with `own` for the span.
    pub(super) fn published(
        &self,
        otherwise: SpanContext,
        local_root: Option<SpanId>,
        own: SpanId,
        inherited: Option<&Arc<Attributes>>,
    ) -> Published {
        let span = SpanContext::new(
            self.trace_id.unwrap_or(otherwise.trace_id),
            self.span_id.unwrap_or(own),
            self.flags.unwrap_or(otherwise.flags),
        );
        let local_root = local_root.unwrap_or(span.span_id);
        Published::new(span, self.messaging.attributes(Some(local_root), inherited), local_root)
    }

    fn text(&mut self, name: &str, text: &str) {
        match name {
            "trace_id" => self.trace_id = text.parse().ok().filter(TraceId::is_valid).or(self.trace_id),
            "span_id" => self.span_id = text.parse().ok().filter(SpanId::is_valid).or(self.span_id),
            "traceparent" => {
                if let Some((trace_id, flags)) = parse_traceparent(text) {
                    self.trace_id = Some(trace_id);
                    self.flags = Some(flags);
                }
            }
            _ => {
                if let Some(key) = Messaging::key(name) {
                    self.messaging.set(key, text.to_owned());
                }
            }
        }
    }

    fn is_wanted(name: &str) -> bool {
        matches!(name, "trace_id" | "span_id" | "traceparent") || Messaging::key(name).is_some()
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "span_id" && value != 0 {
            self.span_id = Some(SpanId(value.to_be_bytes()));
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        if field.name() == "trace_id" && value != 0 {
            self.trace_id = Some(TraceId(value.to_be_bytes()));
        }
    }

    /// `%value` and `?value`; the latter puts strings into quotes.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if Self::is_wanted(field.name()) {
            let text = format!("{value:?}");
            let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            self.text(field.name(), unquoted.unwrap_or(&text));
        }
    }
}

/// The trace and its flags of a W3C `traceparent`, of version 00 or a later one that begins like it.
fn parse_traceparent(text: &str) -> Option<(TraceId, u8)> {
    let mut parts = text.trim().split('-');
    let version = parts.next().filter(|version| version.len() == 2 && *version != "ff")?;
    u8::from_str_radix(version, 16).ok()?;
    let trace_id: TraceId = parts.next()?.parse().ok()?;
    let parent: SpanId = parts.next()?.parse().ok()?;
    let flags = parts.next().filter(|flags| flags.len() == 2)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let is_whole = version != "00" || parts.next().is_none();
    (is_whole && trace_id.is_valid() && parent.is_valid()).then_some((trace_id, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents() {
        let trace: TraceId = "0af7651916cd43dd8448eb211c80319c".parse().unwrap();
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(parse_traceparent(good), Some((trace, 1)));
        assert_eq!(parse_traceparent(&format!("cc{}-more", &good[2..])), Some((trace, 1)));
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "é0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }
}
