//! What a thread is working on: OpenTelemetry thread context and process context, writer and reader.
