//! Stacks of blocked threads, as visits see them, against what the threads say themselves: in many ways to wait.
//!
//! Twice: the compiler's unwinder on the thread, just before it waits, says which frames lie above; and a signal, whose
//! handler sees the true rbp, says what the whole stack is. Neither is told of distances or of `/proc`.

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, RwLock, mpsc};
use std::time::{Duration, Instant};

use spanprof_symbolizer::walk::{Start, WalkEnd, walk_into};

use super::super::clock::ThreadId;
use super::super::handler::copy_memory;
use super::super::modules::Modules;
use super::super::registers::Registers;
use super::super::unwinding::{Outcome, Unwinder};
use super::super::window::StackEnd;

/// A pause that is waited out again and again.
const SHORT: Duration = Duration::from_millis(20);
/// Looks that must find the thread blocked.
const LOOKS: usize = 50;
/// Looks after which it will never be blocked.
const MAX_TRIES: usize = 2_000_000;

/// A way to wait, and how to end it.
struct Wait {
    name: &'static str,
    wait: Box<dyn FnOnce() + Send>,
    release: Box<dyn FnOnce()>,
}

impl Wait {
    fn new(
        name: &'static str,
        wait: impl FnOnce() + Send + 'static,
        release: impl FnOnce() + 'static,
    ) -> Wait {
        Wait { name, wait: Box::new(wait), release: Box::new(release) }
    }

    /// A short pause, over and over.
    fn repeated(name: &'static str, mut pause: impl FnMut() + Send + 'static) -> Wait {
        let stop: &AtomicBool = Box::leak(Box::default());
        let wait = move || {
            while !stop.load(Ordering::Acquire) {
                pause();
            }
        };
        Wait::new(name, wait, move || stop.store(true, Ordering::Release))
    }
}

/// One that lives as long as threads that nobody waits for.
fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn waits() -> Vec<Wait> {
    let mutex = leaked(Mutex::new(()));
    let held = mutex.lock().unwrap();
    let lock = leaked(RwLock::new(()));
    let written = lock.write().unwrap();
    let (condvar, is_over) = (leaked(Condvar::new()), leaked(Mutex::new(false)));
    let (sender, receiver) = mpsc::channel::<()>();
    let (slow_sender, slow_receiver) = mpsc::channel::<()>();
    let (mut pipe, mut into_pipe) = std::io::pipe().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut peer = listener.accept().unwrap().0;
    let (joined_sender, joined) = mpsc::channel::<()>();
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let child_input = child.stdin.take();
    let notify: &tokio::sync::Notify = leaked(tokio::sync::Notify::new());
    vec![
        Wait::repeated("sleep", || std::thread::sleep(SHORT)),
        Wait::new("Mutex", move || drop(mutex.lock()), move || drop(held)),
        Wait::new("RwLock", move || drop(lock.read()), move || drop(written)),
        Wait::new(
            "Condvar",
            move || drop(condvar.wait_while(is_over.lock().unwrap(), |over: &mut bool| !*over)),
            move || {
                *is_over.lock().unwrap() = true;
                condvar.notify_all();
            },
        ),
        Wait::new("mpsc recv", move || assert!(receiver.recv().is_err()), move || drop(sender)),
        Wait::repeated("mpsc recv_timeout", move || {
            // Keeps the other end.
            let _ = (&slow_sender, slow_receiver.recv_timeout(SHORT));
        }),
        Wait::repeated("park_timeout", || std::thread::park_timeout(SHORT)),
        Wait::new("pipe", move || drop(pipe.read(&mut [0])), move || into_pipe.write_all(b"x").unwrap()),
        Wait::new("TcpStream", move || drop(stream.read(&mut [0])), move || peer.write_all(b"x").unwrap()),
        Wait::repeated("poll", || {
            // SAFETY: no descriptors are passed.
            unsafe { libc::poll(std::ptr::null_mut(), 0, SHORT.as_millis() as c_int) };
        }),
        Wait::new(
            "join",
            move || std::thread::spawn(move || assert!(joined.recv().is_err())).join().unwrap(),
            move || drop(joined_sender),
        ),
        Wait::new("Child", move || drop(child.wait()), move || drop(child_input)),
        Wait::new(
            "tokio",
            move || {
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(notify.notified())
            },
            move || notify.notify_one(),
        ),
    ]
}

#[expect(clashing_extern_declarations, reason = "another module names the opaque pointer's type")]
unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

extern "C" fn note_frame(context: *mut c_void, frames: *mut c_void) -> c_int {
    // SAFETY: `callers` passes a vector that lives through the call, and the unwinder a context.
    let (frames, address) = unsafe { (&mut *frames.cast::<Vec<u64>>(), _Unwind_GetIP(context)) };
    frames.push(address as u64);
    0
}

/// Where the callers of the calling function will go on.
#[inline(never)]
fn callers() -> Vec<u64> {
    let mut frames: Vec<u64> = Vec::new();
    // SAFETY: `note_frame` gets the vector that it expects.
    unsafe { _Unwind_Backtrace(note_frame, (&raw mut frames).cast()) };
    frames.retain(|address| *address != 0);
    frames.split_off(2)
}

/// What a thread says before it waits.
struct Report {
    thread: ThreadId,
    thread_pointer: usize,
    callers: Vec<u64>,
}

#[inline(never)]
fn report_and_wait(report: &mpsc::Sender<Report>, wait: Box<dyn FnOnce() + Send>) {
    let thread_pointer: usize;
    // SAFETY: has no arguments; on x86-64 the thread's first word is its own address.
    let thread = unsafe {
        std::arch::asm!("mov {}, fs:0", out(reg) thread_pointer, options(nostack, readonly, preserves_flags));
        libc::gettid()
    };
    report.send(Report { thread, thread_pointer, callers: callers() }).unwrap();
    wait();
    black_box(());
}

const STACK_BYTES: usize = 64 << 10;

/// What the handler of this test leaves: registers and stack.
struct Interrupted {
    registers: [AtomicU64; 3],
    stack: [AtomicU64; STACK_BYTES / 8],
    length: AtomicUsize,
    is_done: AtomicBool,
}

static INTERRUPTED: Interrupted = Interrupted {
    registers: [const { AtomicU64::new(0) }; 3],
    stack: [const { AtomicU64::new(0) }; STACK_BYTES / 8],
    length: AtomicUsize::new(0),
    is_done: AtomicBool::new(false),
};

unsafe extern "C" fn on_signal(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's argument.
    let registers = unsafe { Registers::of_interrupted(context) };
    let mut word = [0; 8];
    let mut length = 0;
    for slot in &INTERRUPTED.stack {
        if copy_memory(registers.stack + length, &mut word) != word.len() {
            break;
        }
        slot.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        length += 8;
    }
    let values = [registers.instruction, registers.stack, registers.frame];
    INTERRUPTED.registers.iter().zip(values).for_each(|(slot, value)| slot.store(value, Ordering::Relaxed));
    INTERRUPTED.length.store(length as usize, Ordering::Relaxed);
    INTERRUPTED.is_done.store(true, Ordering::Release);
}

/// The stack of a thread by the registers that a signal finds.
fn by_signal(modules: &Modules, thread: ThreadId) -> (Vec<u64>, WalkEnd) {
    INTERRUPTED.is_done.store(false, Ordering::Relaxed);
    // SAFETY: sends a signal that is handled.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, libc::SIGUSR2) };
    assert_eq!(sent, 0);
    while !INTERRUPTED.is_done.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    let [ip, sp, bp] = INTERRUPTED.registers.each_ref().map(|register| register.load(Ordering::Relaxed));
    let words = INTERRUPTED.length.load(Ordering::Relaxed) / 8;
    let read = |address: u64| {
        let offset = address.checked_sub(sp).filter(|offset| offset.is_multiple_of(8))?;
        let word = INTERRUPTED.stack.get(..words)?.get((offset / 8) as usize)?;
        Some(word.load(Ordering::Relaxed))
    };
    let mut frames = vec![0; 512];
    let start = Start { ip, sp, bp: Some(bp) };
    let never = |_| -> Option<u64> { panic!("rbp is known") };
    let (filled, end) = walk_into(start, |address| modules.rule_at(address), never, read, &mut frames);
    frames.truncate(filled);
    (frames, end)
}

fn handle_signal() {
    // SAFETY: a plain structure, for which zeros are valid; the handler does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
    }
}

/// The stack at each look that finds the thread blocked.
fn looks(unwinder: &mut Unwinder, report: &Report, count: usize) -> Vec<(Vec<u64>, StackEnd)> {
    let mut visitor = None;
    let mut seen = Vec::new();
    for _ in 0..MAX_TRIES {
        match unwinder.visit(report.thread, &mut visitor, report.thread_pointer) {
            Outcome::Blocked(blocked) => seen.push((blocked.stack.frames.to_vec(), blocked.stack.end)),
            Outcome::Running | Outcome::Moved => std::thread::yield_now(),
            Outcome::Gone | Outcome::Denied => panic!("the thread is there"),
        }
        if seen.len() == count {
            return seen;
        }
    }
    panic!("blocked at {} of {MAX_TRIES} looks", seen.len());
}

#[test]
fn in_every_way_to_wait_the_stack_is_whole_and_right() {
    handle_signal();
    let mut modules = Modules::new();
    modules.refresh();
    let mut unwinder = Unwinder::new(Modules::new());
    unwinder.refresh();
    for Wait { name, wait, release } in waits() {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || report_and_wait(&sender, wait));
        let report = receiver.recv().unwrap();
        let above: Vec<u64> = report.callers.iter().map(|address| address - 1).collect();
        // The first looks may find it on its way to the wait.
        let seen = looks(&mut unwinder, &report, LOOKS).split_off(LOOKS / 2);
        for (frames, end) in &seen {
            assert_eq!(*end, StackEnd::Root, "{name}, after {} frames", frames.len());
            assert!(frames.ends_with(&above), "{name}: {frames:x?}, above the wait {above:x?}");
        }
        let is_found = (0..1000).any(|_| {
            let (frames, end) = by_signal(&modules, report.thread);
            // A call that is to be restarted is interrupted before its instruction of two bytes.
            let is_same = seen.iter().any(|(seen, _)| (0..=2).contains(&seen[0].wrapping_sub(frames[0])));
            if is_same {
                assert_eq!(end, WalkEnd::Root, "{name}");
                assert!(
                    seen.iter().any(|(seen, _)| seen[1..] == frames[1..]),
                    "{name}: {seen:x?} {frames:x?}"
                );
            }
            is_same
        });
        assert!(is_found, "{name}: no signal found it where visits did");
        println!("{name}: {} frames at {} looks", seen[0].0.len(), seen.len());
        release();
        thread.join().unwrap();
    }
}

/// Run with `--release --ignored --nocapture`.
#[test]
#[ignore = "prints what a visit costs"]
fn what_a_visit_costs() {
    let mut unwinder = Unwinder::new(Modules::new());
    unwinder.refresh();
    let (sender, receiver) = mpsc::channel();
    let (end, is_over) = mpsc::channel::<()>();
    let wait = Box::new(move || assert!(is_over.recv().is_err()));
    let thread = std::thread::spawn(move || report_and_wait(&sender, wait));
    let report = receiver.recv().unwrap();
    let frames = looks(&mut unwinder, &report, 1000)[999].0.len();
    let mut visitor = None;
    let mut best = Duration::MAX;
    for _ in 0..7 {
        let begin = Instant::now();
        for _ in 0..10_000 {
            black_box(unwinder.visit(report.thread, &mut visitor, report.thread_pointer));
        }
        best = best.min(begin.elapsed() / 10_000);
    }
    println!("{} ns per visit, {frames} frames", best.as_nanos());
    drop(end);
    thread.join().unwrap();
}
