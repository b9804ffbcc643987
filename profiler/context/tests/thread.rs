//! The thread writer, seen through plain byte offsets: nothing here uses the crate's own idea of the layout.

use std::sync::{Arc, LazyLock};
use std::thread;

use spanprof_context::locate::{self, Access, RecordBuffer};
use spanprof_context::memory::ProcessMemory;
use spanprof_context::thread::{
    capture, clear, current, enter, enter_with_attributes, has_guards, put_back, set, set_aside,
    set_with_attributes,
};
use spanprof_context::{Attributes, Key, Prepared, Record, SpanContext, SpanId, TraceId, process};

fn span(number: u8) -> SpanContext {
    SpanContext::new(TraceId([number; 16]), SpanId([number; 8]), 1)
}

/// The slot's offset, from the process context that we publish for ourselves.
fn offset() -> i64 {
    static OFFSET: LazyLock<i64> = LazyLock::new(|| {
        process::publish(&process::ProcessContext::for_service("test")).unwrap();
        match locate::thread_slot(std::process::id()).unwrap().unwrap().access {
            Access::Static { offset } => offset,
            other => panic!("a test program's slot is static: {other:?}"),
        }
    });
    *OFFSET
}

/// The calling thread's thread pointer.
fn thread_pointer() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut pointer = 0u64;
        const ARCH_GET_FS: libc::c_int = 0x1003;
        // SAFETY: writes one word.
        assert_eq!(unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_FS, &raw mut pointer) }, 0);
        pointer
    }
    #[cfg(target_arch = "aarch64")]
    {
        let pointer: u64;
        // SAFETY: reads a register that user code may read.
        unsafe { std::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer) };
        pointer
    }
}

/// What an independent reader sees of the calling thread: pointer, sequence, and the record's bytes.
fn observe() -> (u64, u64, Option<Vec<u8>>) {
    let slot = thread_pointer().wrapping_add_signed(offset());
    // SAFETY: the published offset leads to 16 bytes of this thread's own storage, and the pointer in it to a record.
    unsafe {
        let pointer = (slot as *const u64).read_volatile();
        let sequence = ((slot + 8) as *const u64).read_volatile();
        let record = (pointer != 0).then(|| {
            let header = std::slice::from_raw_parts(pointer as *const u8, 28);
            let size = u16::from_ne_bytes([header[26], header[27]]) as usize;
            std::slice::from_raw_parts(pointer as *const u8, 28 + size).to_vec()
        });
        (pointer, sequence, record)
    }
}

#[test]
fn an_independent_reader_finds_every_field() {
    let attributes = Attributes::new()
        .with(Key::MessagingDestinationName, "orders")
        .with(Key::MessagingConsumerGroupName, "billing");
    let trace: TraceId = "0102030405060708090a0b0c0d0e0f10".parse().unwrap();
    let span_id: SpanId = "a1a2a3a4a5a6a7a8".parse().unwrap();
    set_with_attributes(&SpanContext::new(trace, span_id, 3), &attributes);
    let (pointer, _, record) = observe();
    let record = record.unwrap();
    assert_eq!(pointer % 2, 0, "the standard asks for an even address");
    assert_eq!(record[..16], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    assert_eq!(record[16..24], [0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8]);
    assert_eq!(record[24..26], [1, 3]);
    assert_eq!(&record[28..], b"\x01\x06orders\x02\x07billing");

    set(&span(7));
    assert_eq!(observe().2.unwrap().len(), 28, "a set without attributes leaves none behind");
    clear();
    assert_eq!(observe().2, None);
    assert_eq!(current(), None);
}

#[test]
fn our_reader_reads_the_record() {
    set_with_attributes(&span(9), &Attributes::new().with(Key::MessagingOperationName, "process"));
    let _ = offset();
    let slot = locate::thread_slot(std::process::id()).unwrap().unwrap();
    assert!(slot.has_sequence);
    let memory = ProcessMemory::new(std::process::id());
    let mut buffer: RecordBuffer = [0; 640];
    let record = locate::read_thread(&memory, thread_pointer(), &slot, &mut buffer).unwrap().unwrap();
    assert_eq!(record.span_context(), Some(span(9)));
    assert_eq!(record.attribute(Key::MessagingOperationName as u8), Some("process"));
    clear();
    assert_eq!(locate::read_thread(&memory, thread_pointer(), &slot, &mut buffer).unwrap(), None);
}

/// On x86-64 Rust links with lld by default, for which this crate's build script exports the symbol.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_symbol_leads_to_the_same_slot() {
    let by_context = locate::thread_slot(std::process::id()).unwrap().map(|slot| slot.access);
    let by_symbol = locate::thread_slot_with(std::process::id(), None).unwrap();
    let by_symbol =
        by_symbol.expect("exported; with a linker other than lld it is not, and this test cannot hold");
    assert!(spanprof_context::thread::owns_standard_symbol());
    assert!(!by_symbol.has_sequence);
    assert_eq!(by_symbol.access, Access::Static { offset: offset() });
    assert!(by_context.is_none_or(|access| access == by_symbol.access));
}

#[test]
fn the_pair_changes_with_every_change() {
    let orders = Attributes::new().with(Key::MessagingDestinationName, "orders");
    let mut seen = Vec::new();
    let mut changed = || {
        let (pointer, sequence, _) = observe();
        assert_ne!(pointer, 0);
        assert!(!seen.contains(&(pointer, sequence)));
        seen.push((pointer, sequence));
    };
    set(&span(1));
    changed();
    set(&span(1));
    changed();
    set_with_attributes(&span(1), &orders);
    changed();
    {
        let _outer = enter(&span(2));
        changed();
        let inner = enter_with_attributes(&span(3), &orders);
        changed();
        drop(inner);
        changed();
    }
    changed();
    clear();
    assert_eq!(observe().0, 0);
    set(&span(1));
    changed();
}

#[test]
fn guards_restore_spans_and_attributes() {
    clear();
    let orders = Attributes::new().with(Key::MessagingDestinationName, "orders");
    let billing = Attributes::new().with(Key::MessagingDestinationName, "billing");
    let destination = || {
        let record = observe().2?;
        Record::parse(&record)?.attribute(1).map(str::to_owned)
    };
    {
        let _message = enter_with_attributes(&span(1), &orders);
        assert_eq!((current(), destination().as_deref()), (Some(span(1)), Some("orders")));
        {
            let _inner = enter(&span(2));
            assert_eq!(
                (current(), destination().as_deref()),
                (Some(span(2)), Some("orders")),
                "kept by an inner span"
            );
            {
                let _other = enter_with_attributes(&span(3), &billing);
                assert_eq!((current(), destination().as_deref()), (Some(span(3)), Some("billing")));
                let _none = enter(&SpanContext::default());
                assert_eq!(current(), None, "an invalid span is none");
            }
            assert_eq!((current(), destination().as_deref()), (Some(span(2)), Some("orders")));
        }
        assert_eq!((current(), destination().as_deref()), (Some(span(1)), Some("orders")));
    }
    assert_eq!((current(), destination()), (None, None));
    let _later = enter(&span(4));
    assert_eq!(destination(), None, "attributes of a span that ended don't come back");
}

#[test]
fn a_guard_that_publishes_nothing_hides_attributes_and_keeps_them() {
    clear();
    let orders = Attributes::new().with(Key::MessagingDestinationName, "orders");
    let billing = Attributes::new().with(Key::MessagingDestinationName, "a longer name");
    let record = || observe().2;
    {
        let _message = enter_with_attributes(&span(1), &orders);
        let before = record();
        {
            let _none = enter(&SpanContext::default());
            assert_eq!(record(), None);
            let _other = enter_with_attributes(&span(2), &billing);
            let bytes = record().unwrap();
            assert_eq!(Record::parse(&bytes).unwrap().attribute(1), Some("a longer name"));
        }
        assert_eq!(record(), before);
    }
    let _none = enter(&SpanContext::default());
    let _later = enter(&span(3));
    assert_eq!(record().unwrap().len(), 28, "attributes of a span that ended don't come back");
}

#[test]
fn a_guard_restores_when_a_panic_unwinds() {
    let _outer = enter(&span(1));
    let result = std::panic::catch_unwind(|| {
        let _inner = enter(&span(2));
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(result.is_err());
    assert_eq!(current(), Some(span(1)));
}

#[test]
fn guards_dropped_in_the_wrong_order_leave_nothing_wrong() {
    clear();
    let first = enter(&span(1));
    let second = enter(&span(2));
    drop(first);
    assert_eq!(current(), None, "unknown rather than wrong");
    let third = enter(&span(3));
    drop(second);
    assert_eq!(current(), None);
    drop(third);
    assert_eq!(current(), None);
    let fourth = enter(&span(4));
    assert_eq!(current(), Some(span(4)));
    drop(fourth);
    assert_eq!(current(), None);
}

#[test]
fn a_set_takes_over_from_open_guards() {
    clear();
    let guard = enter(&span(1));
    set(&span(2));
    drop(guard);
    assert_eq!(current(), Some(span(2)));
    clear();
}

#[test]
fn a_full_record_takes_whole_entries_only() {
    clear();
    let name = "n".repeat(250);
    let long = Attributes::new()
        .with(Key::MessagingDestinationName, &name)
        .with(Key::MessagingConsumerGroupName, "g");
    let _first = enter_with_attributes(&span(1), &long);
    let _second = enter_with_attributes(&span(2), &long);
    let _third = enter_with_attributes(&span(3), &long);
    let record = observe().2.unwrap();
    assert!(record.len() <= 640);
    let record = Record::parse(&record).unwrap();
    assert!(!record.is_truncated());
    assert_eq!(record.attribute(1), Some(name.as_str()));
    assert_eq!(record.attribute(2), Some("g"));
}

#[test]
fn threads_come_and_go_without_a_pair_coming_again() {
    use std::collections::HashMap;
    let _ = offset();
    let mut contents: HashMap<(u64, u64), [u8; 8]> = HashMap::new();
    let mut addresses = std::collections::HashSet::new();
    for round in 0..200u64 {
        let observed = thread::spawn(move || {
            (0..50u64)
                .map(|step| {
                    let id = SpanId((round << 32 | step | 1 << 63).to_be_bytes());
                    set(&SpanContext::new(TraceId([1; 16]), id, 0));
                    let (pointer, sequence, record) = observe();
                    assert_eq!(record.unwrap()[16..24], id.0);
                    ((pointer, sequence), id.0)
                })
                .collect::<Vec<_>>()
        })
        .join()
        .unwrap();
        for (pair, id) in observed {
            addresses.insert(pair.0);
            assert!(contents.insert(pair, id).is_none(), "a pair stood for two contents");
        }
    }
    assert!(addresses.len() < 200, "no address was used twice, so nothing was tested");
}

#[test]
fn a_new_thread_publishes_nothing() {
    let _ = offset();
    set(&span(5));
    thread::spawn(|| {
        assert_eq!(observe(), (0, 0, None));
        assert_eq!(current(), None);
    })
    .join()
    .unwrap();
    clear();
}

#[test]
fn a_thread_reads_back_its_own_attributes_in_whole_entries() {
    thread::spawn(|| {
        let mut bytes = [0; 128];
        assert_eq!(thread_now(&mut bytes), None);
        let orders = Attributes::new()
            .with(Key::MessagingDestinationName, "orders")
            .with(Key::MessagingOperationName, "process");
        let _span = enter_with_attributes(&span(7), &orders);
        assert_eq!(thread_now(&mut bytes), Some((span(7), 17)));
        assert_eq!(&bytes[..17], orders.as_bytes());
        // One byte short of both: the first alone. Short of the first: none.
        assert_eq!(thread_now(&mut bytes[..16]), Some((span(7), 8)));
        assert_eq!(thread_now(&mut bytes[..7]), Some((span(7), 0)));
        assert_eq!(thread_now(&mut []), Some((span(7), 0)));
    })
    .join()
    .unwrap();
}

fn thread_now(attributes: &mut [u8]) -> Option<(SpanContext, usize)> {
    spanprof_context::thread::current_with_attributes(attributes)
}

#[test]
fn what_guards_publish_is_set_aside_and_put_back() {
    clear();
    assert!(set_aside().is_none(), "there is no guard");
    set(&span(1));
    assert!(set_aside().is_none(), "nor does a statement leave one");
    clear();
    let orders = Attributes::new().with(Key::MessagingDestinationName, "orders");
    let billing = Attributes::new().with(Key::MessagingConsumerGroupName, "billing");
    let outer = enter_with_attributes(&span(1), &orders);
    let outer_record = observe().2;
    {
        let _inner = enter_with_attributes(&span(2), &billing);
        let inner_record = observe().2;
        let aside = set_aside().unwrap();
        set_with_attributes(&span(3), &Attributes::new().with(Key::MessagingOperationName, &"x".repeat(200)));
        drop(enter(&span(4)));
        put_back(aside);
        assert_eq!(observe().2, inner_record);
    }
    assert_eq!(observe().2, outer_record, "the outer attributes are whole again");
    let aside = set_aside().unwrap();
    set(&span(3));
    drop(outer);
    put_back(aside);
    assert_eq!(current(), None, "its guard is gone, so nobody would ever take it back");
    assert_eq!(capture(), None);
}

#[test]
fn attributes_of_every_size_are_published_whole() {
    for size in 0..=255usize {
        let value: String = (0..size).map(|at| char::from(b'a' + ((at * 7 + size) % 26) as u8)).collect();
        let attributes = Attributes::new().with(Key::MessagingDestinationName, &value);
        set_with_attributes(&span(1), &attributes);
        let (_, sequence, record) = observe();
        assert_eq!(&record.as_ref().unwrap()[28..], attributes.as_bytes(), "{size}");
        clear();
        Prepared::new(span(1), Arc::new(attributes)).set();
        assert_eq!(observe(), (observe().0, sequence + 1, record), "prepared, {size}");
    }
    clear();
}

#[test]
fn a_prepared_record_states_what_holds() {
    let orders = Arc::new(Attributes::new().with(Key::MessagingDestinationName, "orders"));
    let prepared = Prepared::new(span(1), Arc::clone(&orders));
    let invalid = Prepared::new(SpanContext::new(TraceId([1; 16]), SpanId([0; 8]), 1), orders);
    thread::spawn(move || {
        prepared.set();
        assert_ne!(observe().1, 1, "a thread's first sequence number isn't that of an earlier one");
        assert_eq!(capture().unwrap(), (*prepared.span(), Attributes::clone(prepared.attributes())));
        invalid.set();
        assert_eq!(observe().2, None);
        let guard = enter(&span(2));
        assert!(has_guards());
        prepared.set();
        assert!(!has_guards(), "it takes the thread over");
        drop(guard);
        assert_eq!(current(), Some(span(1)));
        {
            let _inner = enter(&span(3));
            assert_eq!(attribute_of_record(Key::MessagingDestinationName).as_deref(), Some("orders"));
        }
        assert_eq!(capture().unwrap().0, span(1));
    })
    .join()
    .unwrap();
}

fn attribute_of_record(key: Key) -> Option<String> {
    capture()?.1.get(key).map(str::to_owned)
}
