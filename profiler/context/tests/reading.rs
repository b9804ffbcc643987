//! Slots read by a signal handler and from another thread, while their threads publish.

use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard};
use std::thread;

use spanprof_context::memory::{Memory, ProcessMemory};
use spanprof_context::reading::{
    RECORD_DISTANCE, SLOT_COPY_SIZE, Snapshot, read_slot, static_offset, thread_pointer,
};
use spanprof_context::thread::{clear, enter, set_with_attributes};
use spanprof_context::{Attributes, Key, SpanContext, SpanId, TraceId};

fn span(number: u8) -> SpanContext {
    SpanContext::new(TraceId([number; 16]), SpanId([number; 8]), 1)
}

/// Attributes whose every byte follows from the number, of varying size.
fn attributes(number: u8) -> Attributes {
    let letter = char::from(b'a' + number % 26).to_string();
    Attributes::new().with(Key::MessagingDestinationName, &letter.repeat(usize::from(number)))
}

fn own_slot() -> usize {
    thread_pointer().wrapping_add_signed(static_offset().expect("a program's slot is static"))
}

#[test]
fn the_own_slot_is_read() {
    let slot = own_slot() as *const u8;
    let mut buffer = [0; 612];
    // SAFETY: the calling thread's slot.
    let read = |buffer: &mut [u8]| unsafe { read_slot(slot, buffer) };
    assert_eq!(read(&mut buffer), None);
    set_with_attributes(&span(5), &attributes(5));
    let first = read(&mut buffer).unwrap();
    assert_eq!(first.span, span(5));
    assert_eq!(&buffer[..usize::from(first.attributes_size)], attributes(5).as_bytes());
    assert_eq!(read(&mut buffer), Some(first), "nothing changed");
    // Where there is no room for the entry, no part of it is taken.
    let cut = read(&mut buffer[..6]).unwrap();
    assert_eq!((cut.span, cut.attributes_size), (span(5), 0));
    drop(enter(&span(6)));
    let again = read(&mut buffer).unwrap();
    assert_eq!(again.span, span(5));
    assert_ne!(again.sequence, first.sequence);
    clear();
    assert_eq!(read(&mut buffer), None);
}

#[test]
fn copies_that_are_not_ours_are_not_understood() {
    set_with_attributes(&span(5), &attributes(5));
    let slot = own_slot();
    let mut copy = [0; SLOT_COPY_SIZE];
    ProcessMemory::new(std::process::id()).read(slot as u64, &mut copy).unwrap();
    clear();
    let (snapshot, bytes) = Snapshot::parse(&copy, slot).unwrap();
    assert_eq!((snapshot.span, bytes), (span(5), attributes(5).as_bytes()));
    assert_eq!(Snapshot::parse(&copy, slot + 8), None, "the pointer leads elsewhere");
    let end = RECORD_DISTANCE + 28 + bytes.len();
    assert!(Snapshot::parse(&copy[..end], slot).is_some());
    for length in 0..end {
        assert_eq!(Snapshot::parse(&copy[..length], slot), None, "{length}");
    }
    for byte in 0..SLOT_COPY_SIZE {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = copy;
            damaged[byte] = value;
            // Whatever comes of it: no panic, and nothing outside the copy.
            if let Some((snapshot, bytes)) = Snapshot::parse(&damaged, slot) {
                assert_eq!(bytes.len(), usize::from(snapshot.attributes_size));
            }
        }
    }
}

static OFFSET: AtomicIsize = AtomicIsize::new(0);
static SEEN: AtomicU64 = AtomicU64::new(0);
static EMPTY: AtomicU64 = AtomicU64::new(0);
static TORN: AtomicU64 = AtomicU64::new(0);

/// The signal's disposition and the counters belong to one test at a time.
fn signals() -> MutexGuard<'static, ()> {
    static SIGNALS: Mutex<()> = Mutex::new(());
    SIGNALS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

extern "C" fn look(_: libc::c_int) {
    let slot = thread_pointer().wrapping_add_signed(OFFSET.load(Ordering::Relaxed)) as *const u8;
    let mut buffer = [0; 612];
    // SAFETY: the interrupted thread's own slot.
    let Some(snapshot) = (unsafe { read_slot(slot, &mut buffer) }) else {
        EMPTY.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let number = snapshot.span.span_id.0[0];
    let letter = b'a' + number % 26;
    let entry = &buffer[..usize::from(snapshot.attributes_size)];
    let whole = snapshot.span == span(number)
        && entry.len() == 2 + usize::from(number)
        && entry[..2] == [1, number]
        && entry[2..].iter().all(|byte| *byte == letter);
    if whole { &SEEN } else { &TORN }.fetch_add(1, Ordering::Relaxed);
}

fn handle_signals() {
    OFFSET.store(static_offset().expect("a program's slot is static"), Ordering::Relaxed);
    let handler = look as extern "C" fn(libc::c_int);
    // SAFETY: the handler does only what a handler may.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
}

#[test]
fn a_handler_never_sees_half_a_record() {
    let _alone = signals();
    handle_signals();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = thread::spawn(move || {
        let all: Vec<_> = (1..=200).map(|number| (span(number), attributes(number))).collect();
        while !stopped.load(Ordering::Relaxed) {
            for (span, attributes) in &all {
                set_with_attributes(span, attributes);
                clear();
                set_with_attributes(span, attributes);
            }
        }
    });
    let target = writer.as_pthread_t();
    while SEEN.load(Ordering::Relaxed) < 5_000 && TORN.load(Ordering::Relaxed) == 0 {
        // SAFETY: the thread lives until it is told to stop, below.
        assert_eq!(unsafe { libc::pthread_kill(target, libc::SIGUSR1) }, 0);
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(TORN.load(Ordering::Relaxed), 0);
    assert!(EMPTY.load(Ordering::Relaxed) > 0, "no signal came between two records, so nothing was tested");
}

#[test]
fn a_handler_finds_nothing_on_a_thread_that_never_published() {
    let _alone = signals();
    handle_signals();
    let before = EMPTY.load(Ordering::Relaxed);
    thread::spawn(|| {
        // SAFETY: sends this thread a signal that is handled.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
    })
    .join()
    .unwrap();
    assert_eq!(EMPTY.load(Ordering::Relaxed), before + 1);
}

#[test]
fn another_thread_reads_a_waiting_one() {
    let (published, looked) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (send, receive) = std::sync::mpsc::channel();
    let waits = (published.clone(), looked.clone());
    let writer = thread::spawn(move || {
        set_with_attributes(&span(9), &attributes(9));
        send.send(thread_pointer()).unwrap();
        waits.0.wait();
        waits.1.wait();
        clear();
    });
    let slot = receive.recv().unwrap().wrapping_add_signed(static_offset().unwrap());
    published.wait();
    let mut copy = [0; SLOT_COPY_SIZE];
    ProcessMemory::new(std::process::id()).read(slot as u64, &mut copy).unwrap();
    let (snapshot, bytes) = Snapshot::parse(&copy, slot).unwrap();
    assert_eq!(snapshot.span, span(9));
    assert_eq!(bytes, attributes(9).as_bytes());
    looked.wait();
    writer.join().unwrap();
}
