//! Publishes a service's active span to any profiler that reads OpenTelemetry's thread context.
