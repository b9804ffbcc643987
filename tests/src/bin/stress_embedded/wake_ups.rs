//! Partners that wake each other, each time with a number that must come back.
//!
//! The partner thread is made at a worker's first round and lives as long as the program.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};

use spanprof_tests::clock;

use super::worker::{enter, require};

const PINGS: u64 = 50;

/// Between two pings: mostly nothing, so that a signal may hit any instruction of falling asleep, now and then some work.
fn pause(number: u64) {
    if number.is_multiple_of(7) {
        clock::turn(number % 5_000);
    }
}

fn spawn(partner: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name("partner".to_owned()).spawn(partner).expect("a thread");
}

fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: writes two descriptors, which nobody else has.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0, "pipe");
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    }
}

/// By pipes: the kernel's own wake-ups.
pub(crate) fn pipes(number: u64) {
    thread_local!(static PARTNER: RefCell<(File, File)> = RefCell::new({
        let (mut asked, ask) = pipe();
        let (told, mut tell) = pipe();
        spawn(move || {
            let mut number = [0; 8];
            while asked.read_exact(&mut number).is_ok() && tell.write_all(&number).is_ok() {
                let _span = enter(u64::from_ne_bytes(number));
            }
        });
        (told, ask)
    }));
    PARTNER.with_borrow_mut(|(told, ask)| {
        for ping in number * PINGS..(number + 1) * PINGS {
            pause(ping);
            let mut answer = [0; 8];
            let answered = ask.write_all(&ping.to_ne_bytes()).and_then(|()| told.read_exact(&mut answer));
            require(answered.is_ok() && answer == ping.to_ne_bytes(), || {
                format!("pipe: {answered:?} {answer:?}")
            });
        }
    });
}

/// By a mutex and a condition variable: futexes, with a time-out that never comes to an end.
pub(crate) fn condition_variables(number: u64) {
    #[derive(Default)]
    struct Board {
        asked: u64,
        told: u64,
    }
    thread_local!(static BOARD: Arc<(Mutex<Board>, Condvar)> = {
        let shared = Arc::new((Mutex::new(Board::default()), Condvar::new()));
        let partners = Arc::clone(&shared);
        spawn(move || {
            let (board, changed) = &*partners;
            let mut board = board.lock().expect("nobody panics");
            loop {
                board = changed.wait_while(board, |board| board.asked == board.told).expect("nobody panics");
                board.told = board.asked;
                changed.notify_all();
            }
        });
        shared
    });
    BOARD.with(|shared| {
        let (board, changed) = &**shared;
        for ping in number * PINGS..(number + 1) * PINGS {
            pause(ping);
            let mut board = board.lock().expect("nobody panics");
            board.asked = ping;
            changed.notify_all();
            let hour = std::time::Duration::from_secs(3600);
            let waited = changed.wait_timeout_while(board, hour, |board| board.told != ping);
            require(waited.is_ok_and(|(_, result)| !result.timed_out()), || "an hour has passed".to_owned());
        }
    });
}

/// By channels: threads that park.
pub(crate) fn channels(number: u64) {
    thread_local!(static PARTNER: (SyncSender<u64>, Receiver<u64>) = {
        let (ask, asked) = sync_channel(0);
        let (tell, told) = sync_channel(1);
        spawn(move || {
            while let Ok(number) = asked.recv() {
                let _span = enter(number);
                if tell.send(number).is_err() {
                    return;
                }
            }
        });
        (ask, told)
    });
    PARTNER.with(|(ask, told)| {
        for ping in number * PINGS..(number + 1) * PINGS {
            pause(ping);
            let answer = ask.send(ping).ok().and_then(|()| told.recv().ok());
            require(answer == Some(ping), || format!("channel: {answer:?} for {ping}"));
        }
    });
}
