//! For services on `tracing` without OpenTelemetry: a layer that publishes the span that a thread has entered.
