//! Folded text against what it must say.

mod fixture;

use fixture::{SLOW_SPAN, profile};
use spanprof_exporter::{FoldedRoot, SampleFilter, SampleKind, folded};

#[test]
fn stacks_are_root_first_with_inlined_functions_and_clean_names() {
    let text = folded(&profile(), SampleKind::Cpu, &SampleFilter::default(), FoldedRoot::Function);
    assert_eq!(
        text,
        "[no stack] 1000000\n\
         start_thread;orders::handle;orders::parse;<core::str::Chars as Iterator>::next 32000000\n\
         start_thread;orders::publish: now 4000000\n"
    );
}

#[test]
fn one_span_alone() {
    let text = folded(&profile(), SampleKind::OffCpu, &SampleFilter::span(SLOW_SPAN), FoldedRoot::Function);
    assert_eq!(
        text,
        "start_thread;orders::handle;orders::reserve;std::sync::poison::mutex::Mutex<T>::lock;\
         std::sys::sync::mutex::futex::Mutex::lock_contended;syscall 430000000\n"
    );
}

#[test]
fn services_stay_apart_where_there_are_several() {
    let text = folded(&profile(), SampleKind::OffCpu, &SampleFilter::default(), FoldedRoot::ServiceIfSeveral);
    assert!(text.starts_with("consumer;start_thread;orders::handle;"), "{text}");
    assert!(
        text.contains("\nproducer;start_thread;orders::publish: now;clock_nanosleep 100000000\n"),
        "{text}"
    );
}
