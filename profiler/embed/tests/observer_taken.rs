//! Another library observes OpenTelemetry's contexts already: the service is told so, once, and goes on.
#![cfg(feature = "opentelemetry")]

use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::context::{ContextObserver, GlobalContextObserver};

struct Other;

impl ContextObserver for Other {
    fn on_context_enter(&self, _: &Context, _: &Context) {}
    fn on_context_exit(&self, _: &Context, _: &Context) {}
}

#[test]
fn the_error_names_the_cause_and_changes_nothing_else() {
    GlobalContextObserver::set(Arc::new(Other));
    let agent = spanprof::Agent::start().expect("nothing was set by hand");
    assert_eq!(agent.notes().len(), 1);
    assert!(agent.notes()[0].contains("keep one of the two"), "{:?}", agent.notes());
    // Spans marked by hand are published all the same, to whoever reads the process context.
    let _span = spanprof::enter([1; 16], [2; 8]);
    assert!(spanprof::context::thread::current().is_some());
    let found = spanprof::context::process::read(std::process::id()).unwrap();
    assert!(found.is_some_and(|found| found.context.has_thread_records()));
}
