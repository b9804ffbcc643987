use std::sync::Arc;

use super::*;
use crate::profile::Location;
use crate::waits::{Activity, wait_told};

/// What is said of a stack, leaf first; `k:` marks the kernel's frames, brackets mark notes.
fn said(names: &[&str], kind: SampleKind, wait: Option<&str>) -> String {
    let mut profile = Profile::default();
    let locations = names
        .iter()
        .map(|name| {
            let (name, code) = match name.strip_prefix("k:") {
                Some(name) => (name, FrameKind::Kernel),
                None if name.starts_with('[') => (*name, FrameKind::Synthetic),
                None => (*name, FrameKind::Rust),
            };
            let function: Arc<str> = Arc::from(name);
            let frame = Frame { system_name: function.clone(), function, file: None, line: 0, kind: code };
            profile.intern_location(Location { module: None, address: 0, frames: vec![frame] })
        })
        .collect();
    let stack = profile.intern_stack(locations);
    let waited = wait_told(&profile, stack, kind, Activity::Untold, wait);
    cause(&profile, stack, kind, waited, wait)
}

#[test]
fn waits_are_named_by_the_plumbing_above_the_application() {
    for (names, wait, expected) in [
        (
            &["syscall", "std::sys::sync::mutex::futex::Mutex::lock_contended", "orders::reserve", "main"][..],
            Some("futex"),
            "waiting for a lock in orders::reserve (std::sys::sync::mutex::futex::Mutex::lock_contended)",
        ),
        (
            &["__GI___clock_nanosleep", "std::thread::sleep", "orders::settle::{closure#0}"],
            None,
            "sleeping in orders::settle (std::thread::sleep)",
        ),
        (
            &["syscall", "std::sync::mpsc::Receiver<T>::recv", "<orders::Inbox as Iterator>::next"],
            Some("futex"),
            "waiting for a channel in orders::Inbox::next (std::sync::mpsc::Receiver::recv)",
        ),
        (
            &["recv", "<std::net::tcp::TcpStream as std::io::Read>::read", "orders::charge"],
            Some("recvfrom"),
            "waiting for a socket in orders::charge (std::net::TcpStream::read)",
        ),
        (
            &["fsync", "std::fs::File::sync_all", "orders::log"],
            None,
            "file I/O in orders::log (std::fs::File::sync_all)",
        ),
        (&["syscall", "orders::spin"], Some("futex"), "blocked in orders::spin (futex)"),
        (&["syscall", "orders::spin"], Some("lock"), "waiting for a lock in orders::spin (lock)"),
        (&["orders::spin"], None, "blocked in orders::spin"),
        (&["orders::spin"], Some("pipe"), "waiting for a pipe in orders::spin (pipe)"),
        (&["epoll_wait", "mio::poll::Poll::poll"], None, "polling in runtime code (epoll_wait)"),
        (&[], None, "blocked, stack unknown"),
    ] {
        assert_eq!(said(names, SampleKind::OffCpu, wait), expected);
    }
}

#[test]
fn the_kernel_tells_the_wait_and_is_never_what_was_called() {
    let entered = |inner: &[&'static str], outer: &[&'static str]| -> Vec<&'static str> {
        let entry = ["k:do_syscall_64", "k:entry_SYSCALL_64_after_hwframe"];
        [&["k:__schedule", "k:schedule"], inner, &entry, outer].concat()
    };
    for (inner, outer, expected) in [
        (
            &["k:do_nanosleep", "k:hrtimer_nanosleep", "k:__x64_sys_clock_nanosleep"][..],
            &["__GI___clock_nanosleep", "std::thread::functions::sleep", "orders::throttle"][..],
            "sleeping in orders::throttle (std::thread::sleep)",
        ),
        (
            &["k:do_nanosleep", "k:__x64_sys_nanosleep"],
            &["orders::throttle"],
            "sleeping in orders::throttle (nanosleep)",
        ),
        (
            &["k:futex_do_wait", "k:futex_wait", "k:do_futex", "k:__x64_sys_futex"],
            &["syscall", "std::sync::poison::mutex::Mutex<T>::lock", "orders::reserve"],
            "waiting for a lock in orders::reserve (std::sync::Mutex::lock)",
        ),
        (
            &["k:futex_wait", "k:__x64_sys_futex"],
            &["syscall", "orders::spin"],
            "blocked in orders::spin (futex)",
        ),
        (
            &["k:folio_wait_bit", "k:ext4_sync_file", "k:do_fsync", "k:__x64_sys_fdatasync"],
            &["__GI_fdatasync", "<std::fs::File>::sync_data", "orders::journal"],
            "file I/O in orders::journal (std::fs::File::sync_data)",
        ),
        (
            &["k:submit_bio_wait", "k:ext4_truncate", "k:evict", "k:__fput", "k:__x64_sys_close"],
            &["__GI___close", "core::ptr::drop_in_place<std::fs::File>", "orders::journal"],
            "file I/O in orders::journal (drop of std::fs::File)",
        ),
        (
            &["k:rwsem_down_write_slowpath", "k:ext4_buffered_write_iter", "k:__x64_sys_write"],
            &["__GI___libc_write", "orders::log"],
            "file I/O in orders::log (write)",
        ),
        (
            &[
                "k:sk_wait_data",
                "k:tcp_recvmsg",
                "k:sock_recvmsg",
                "k:__sys_recvfrom",
                "k:__x64_sys_recvfrom",
            ],
            &["__libc_recv", "orders::charge"],
            "waiting for a socket in orders::charge (recv)",
        ),
        (
            &["k:schedule_timeout", "k:poll_schedule_timeout", "k:do_sys_poll", "k:__x64_sys_poll"],
            &["__poll", "<std::net::tcp::TcpStream>::connect_timeout", "orders::charge"],
            "waiting for a socket in orders::charge (std::net::TcpStream::connect_timeout)",
        ),
        (
            &["k:ep_poll", "k:do_epoll_wait", "k:__x64_sys_epoll_wait"],
            &["epoll_wait", "orders::serve"],
            "polling in orders::serve (epoll_wait)",
        ),
        (
            &["k:anon_pipe_read", "k:vfs_read", "k:__x64_sys_read"],
            &["__GI___libc_read", "std::io::stdio::Stdin::read_line", "orders::ask"],
            "waiting for a pipe in orders::ask (std::io::stdio::Stdin::read_line)",
        ),
        (
            &["k:ep_poll", "k:__x64_sys_epoll_wait"],
            &["epoll_wait", "tokio::runtime::park", "start_thread"],
            "polling in runtime code (epoll_wait)",
        ),
        (&["k:ext4_sync_file", "k:__x64_sys_fsync"], &[], "file I/O in the kernel (fsync)"),
        (
            &["k:ext4_sync_file", "k:__x64_sys_fsync"],
            &["[stack ends: unknown code]"],
            "file I/O in the kernel (fsync)",
        ),
        (&["k:do_exit"], &[], "blocked in the kernel"),
    ] {
        assert_eq!(said(&entered(inner, outer), SampleKind::OffCpu, None), expected);
    }
}

#[test]
fn clients_are_no_place_and_their_waits_are_named_in_messaging_words() {
    let futex =
        ["k:futex_do_wait", "k:do_futex", "k:__x64_sys_futex", "___pthread_cond_timedwait", "cnd_timedwait"];
    for (inner, wait, expected) in [
        (
            &[
                "rd_kafka_q_pop_serve",
                "rd_kafka_consumer_poll",
                "rdkafka::consumer::base_consumer::BaseConsumer<C>::poll",
            ][..],
            None,
            "waiting for messages in orders::run (rdkafka::consumer::base_consumer::BaseConsumer::poll)",
        ),
        (&["rd_kafka_flush"], None, "waiting for the broker's answer in orders::run (rd_kafka_flush)"),
        (
            &["rd_kafka_msg_new0", "rd_kafka_producev"],
            None,
            "held back by flow control in orders::run (rd_kafka_producev)",
        ),
        // Who set the label knew more: here, that it was in a span of operation `receive`.
        (&[], Some("long_poll"), "waiting for messages in orders::run (cnd_timedwait)"),
    ] {
        let names = [&futex[..], inner, &["orders::run"]].concat();
        assert_eq!(said(&names, SampleKind::OffCpu, wait), expected);
    }
    let thread = [&futex[..], &["rd_kafka_q_serve", "rd_kafka_thread_main", "start_thread"]].concat();
    assert!(said(&thread, SampleKind::OffCpu, None).starts_with("waiting for work in "));
}

#[test]
fn a_page_fault_is_one_whatever_it_reads() {
    let fault = ["k:__schedule", "k:io_schedule", "k:filemap_fault", "k:handle_mm_fault"];
    let entry = ["k:do_user_addr_fault", "k:exc_page_fault", "k:asm_exc_page_fault"];
    let own = ["memcpy", "std::sync::poison::mutex::Mutex<T>::lock", "orders::load"];
    let names = [&fault[..], &entry, &own].concat();
    let expected = "page fault in orders::load (std::sync::Mutex::lock)";
    assert_eq!(said(&names, SampleKind::OffCpu, None), expected);
    let names = [&fault[..], &entry, &own[2..]].concat();
    assert_eq!(said(&names, SampleKind::OffCpu, None), "page fault in orders::load");
    assert_eq!(said(&names, SampleKind::Cpu, None), "running in the kernel (page fault) for orders::load");
}

#[test]
fn cpu_names_the_call_that_the_application_made() {
    for (names, expected) in [
        (
            &["memcpy", "alloc::vec::Vec<T>::push", "orders::parse", "main"][..],
            "running orders::parse (std::vec::Vec::push)",
        ),
        (&["orders::parse"], "running orders::parse"),
        (&["<u64>::wrapping_mul", "orders::checksum"], "running orders::checksum"),
        (&["memcpy", "std::thread::park"], "running runtime code (memcpy)"),
        (&["[stack ends: no unwind rule]"], "running, stack ends: no unwind rule"),
        (
            &["k:ext4_sync_file", "k:__x64_sys_fdatasync", "<std::fs::File>::sync_data", "orders::journal"],
            "running in the kernel (fdatasync) for orders::journal",
        ),
        (
            &["k:handle_softirqs", "k:asm_sysvec_apic_timer_interrupt", "orders::parse"],
            "running in the kernel (interrupt) for orders::parse",
        ),
        (
            &["k:exc_page_fault", "k:copy_to_user", "k:__x64_sys_read", "__libc_read", "orders::parse"],
            "running in the kernel (read) for orders::parse",
        ),
        (&["k:syscall_exit_to_user_mode", "orders::parse"], "running in the kernel for orders::parse"),
        (&["k:do_futex", "k:__x64_sys_futex", "syscall"], "running in the kernel (futex) for runtime code"),
        (&["k:do_exit", "k:__arm64_sys_exit"], "running in the kernel (exit)"),
        (&[], "running, stack unknown"),
    ] {
        assert_eq!(said(names, SampleKind::Cpu, None), expected);
    }
}

#[test]
fn the_run_queue_says_what_was_about_to_run() {
    for (names, expected) in [
        (&["orders::parse"][..], "ready to run but not running in orders::parse"),
        (
            &["k:__schedule", "k:asm_sysvec_reschedule_ipi", "<u64>::wrapping_mul", "orders::checksum"],
            "ready to run but not running in orders::checksum",
        ),
        (
            &["k:schedule", "k:__x64_sys_recvfrom", "recv", "std::net::tcp::TcpStream::read", "orders::pay"],
            "ready to run but not running in orders::pay (std::net::TcpStream::read)",
        ),
        (&["[waiting without a span]"], "ready to run but not running, waiting without a span"),
    ] {
        assert_eq!(said(names, SampleKind::RunQueue, None), expected);
    }
}

#[test]
fn awaits_are_named_by_what_was_awaited_and_where() {
    for (names, expected) in [
        (
            &[
                "tokio::time::sleep::Sleep::poll",
                "orders::settle::{closure#0}",
                "orders::handle::{closure#0}",
            ][..],
            [
                "sleeping in orders::settle (tokio::time::sleep::Sleep::poll)",
                "woken but not polled in orders::settle (tokio::time::sleep::Sleep::poll)",
            ],
        ),
        (
            &["orders::settle::{closure#0}"],
            ["awaiting in orders::settle", "woken but not polled in orders::settle"],
        ),
        (&["[place lost]"], ["awaiting, place lost", "woken but not polled, place lost"]),
        (&[], ["awaiting, place unknown", "woken but not polled, place unknown"]),
    ] {
        assert_eq!(said(names, SampleKind::Suspended, None), expected[0]);
        assert_eq!(said(names, SampleKind::Ready, None), expected[1]);
    }
}

#[test]
fn a_note_alone_is_said_as_it_is() {
    for (note, expected) in [
        ("[waiting without a span]", "waiting without a span"),
        ("[blocked since before the capture]", "blocked since before the capture"),
        ("[stack lost]", "blocked, stack lost"),
    ] {
        assert_eq!(said(&[note], SampleKind::OffCpu, None), expected);
    }
}
