//! What a consumer has of spanprof, from nothing to all.

use clap::ValueEnum;

/// Each has what those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Variant {
    /// The client alone.
    Bare,
    /// OpenTelemetry's spans by `spanprof-messaging`.
    Spans,
    /// Threads' records that name trace, span, topic and group.
    Published,
    /// The agent, which reads them.
    Attached,
}

impl Variant {
    /// In this order.
    pub(crate) const ALL: [Self; 4] = [Self::Bare, Self::Spans, Self::Published, Self::Attached];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Spans => "spans",
            Self::Published => "published",
            Self::Attached => "attached",
        }
    }

    /// Whether there are spans.
    pub(crate) fn has_spans(self) -> bool {
        self != Self::Bare
    }

    /// Whether threads publish them.
    pub(crate) fn publishes(self) -> bool {
        matches!(self, Self::Published | Self::Attached)
    }
}
