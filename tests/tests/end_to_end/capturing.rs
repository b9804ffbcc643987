//! A capture that encloses a truth exactly, in this process, by the library that the program is made of.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use spanprof_agent::probe::Probe;
use spanprof_agent::recorder::{CaptureOptions, Recorder, Window};
use spanprof_agent::spans::KeepingOptions;

use crate::truth::Truth;

static TURN: Mutex<()> = Mutex::new(());

/// The right to capture, for one test at a time.
pub(crate) type Turn = MutexGuard<'static, ()>;

/// Waits for this test's turn; `None` where this machine allows no capture, which is said by the test's name.
///
/// # Panics
/// Where the environment says `CI`, as no test may be missing there.
pub(crate) fn turn(test: &str) -> Option<Turn> {
    let turn = wait_for_turn();
    let rung = Probe::read("/".as_ref()).bpf();
    // SAFETY: takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    match (rung.usable(), is_root) {
        (true, true) => Some(turn),
        (false, _) => skip(test, &rung.reasons()),
        (true, false) => skip(test, "it needs root"),
    }
}

/// Waits for this test's turn, for one that needs nothing of the machine.
pub(crate) fn wait_for_turn() -> Turn {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a test can't run.
///
/// # Panics
/// As [`turn`].
pub(crate) fn skip<T>(test: &str, why: &str) -> Option<T> {
    assert!(std::env::var_os("CI").is_none(), "{test} cannot run: {why}");
    eprintln!("NOT RUN: {test}: {why}");
    None
}

/// Everything kept: no span folds, no idle thread is shown coarsely.
pub(crate) fn in_full(hz: u32) -> CaptureOptions {
    let spans = KeepingOptions { budget: usize::MAX, threshold: None, normal: usize::MAX };
    CaptureOptions { hz, idle: true, spans, ..CaptureOptions::default() }
}

/// Captures a truth program from before it begins until it has told its truth.
pub(crate) fn capture(options: &CaptureOptions, mut truth: Truth) -> (Value, Window) {
    let mut recorder = Recorder::start(options).expect("the capture starts");
    recorder.add_target(truth.pid()).expect("the target can be captured");
    recorder.restart_window();
    truth.begin();
    let told = poll_until_told(&mut recorder, &truth);
    (told, recorder.close_window())
}

/// Keeps a recorder going until the truth is told.
pub(crate) fn poll_until_told(recorder: &mut Recorder, truth: &Truth) -> Value {
    loop {
        recorder.poll(Duration::from_millis(20)).expect("the capture goes on");
        if let Some(told) = truth.told() {
            return told;
        }
    }
}
