//! What a handler does with a message: a little, or what makes it slow.
//!
//! The functions are named as a shop's are, so that no word of theirs is one that the agent has for a wait.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
use spanprof_slow_messages::Cause;

use crate::clocks;

/// What each message takes.
const USUAL: Duration = Duration::from_micros(200);

/// How much more of a core a rival gets: nine tenths, by the kernel's weights.
const RIVAL: i32 = -10;

/// What handlers lean on.
#[derive(Debug)]
pub(crate) struct Shop {
    supplier: SocketAddr,
    archive: PathBuf,
}

impl Shop {
    /// Opens a supplier's server; the archive is a directory on a disk.
    pub(crate) fn open(archive: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let supplier = listener.local_addr()?;
        thread::Builder::new().name("supplier".to_owned()).spawn(move || supply(&listener))?;
        Ok(Self { supplier, archive })
    }

    /// Handles one message.
    pub(crate) fn handle(&self, slow: Option<(Cause, Duration)>) -> io::Result<()> {
        appraise(USUAL);
        let Some((cause, time)) = slow else { return Ok(()) };
        match cause {
            Cause::Cpu => appraise(time),
            Cause::Lock => reserve(time),
            Cause::Socket => self.order(time)?,
            Cause::Sleep => rest(time),
            Cause::File => self.enter_into_books(time)?,
            Cause::RunQueue => compete(time)?,
            Cause::HeadOfLine => hold_up(time),
        }
        Ok(())
    }

    /// Asks the supplier, who answers after this time.
    #[inline(never)]
    fn order(&self, time: Duration) -> io::Result<()> {
        let mut supplier = TcpStream::connect(self.supplier)?;
        supplier.write_all(&time.as_micros().to_be_bytes())?;
        supplier.read_exact(&mut [0])
    }

    /// Writes to the disk, and waits for it, until this time is over.
    #[inline(never)]
    fn enter_into_books(&self, time: Duration) -> io::Result<()> {
        let begin = Instant::now();
        let name = self.archive.join(gettid().as_raw_nonzero().to_string());
        let mut book = OpenOptions::new().create(true).truncate(false).write(true).open(name)?;
        while begin.elapsed() < time {
            book.rewind()?;
            book.write_all(&[7; 4096])?;
            book.sync_all()?;
        }
        Ok(())
    }
}

/// Computes for this long.
#[inline(never)]
fn appraise(time: Duration) {
    let begin = clocks::cpu();
    while clocks::cpu() - begin < time {
        compute();
    }
}

/// Some microseconds.
#[inline(never)]
fn compute() {
    let mut state = 7_u64;
    for _ in 0..500 {
        state = black_box(state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1));
    }
}

/// Wants what another thread has for this long.
#[inline(never)]
fn reserve(time: Duration) {
    let stock = Arc::new(Mutex::new(1));
    let (taken, is_taken) = mpsc::channel();
    let rival = Arc::clone(&stock);
    thread::spawn(move || take_stock(&rival, &taken, time));
    let _ = is_taken.recv();
    *stock.lock().unwrap_or_else(PoisonError::into_inner) += 1;
}

/// Has it.
#[inline(never)]
fn take_stock(stock: &Mutex<u32>, taken: &mpsc::Sender<()>, time: Duration) {
    let mut count = stock.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = taken.send(());
    thread::sleep(time);
    *count += 1;
}

#[inline(never)]
fn rest(time: Duration) {
    thread::sleep(time);
    stay(1);
}

/// As [`rest`]; others wait for this one.
#[inline(never)]
fn hold_up(time: Duration) {
    thread::sleep(time);
    stay(2);
}

/// Does next to nothing after a call, which else were the last thing that its caller does: an optimized build jumps there, and
/// leaves no frame of the caller to be seen. The number tells callers apart that else do the same, and would be made one.
fn stay(number: u32) {
    std::hint::black_box(number);
}

/// Computes on a core that another thread has most of, until this one has waited for it for this long.
#[inline(never)]
fn compete(time: Duration) -> io::Result<()> {
    let all = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu)).unwrap_or_default();
    let mut one = CpuSet::new();
    one.set(last);
    let over = Arc::new(AtomicBool::new(false));
    let begin = clocks::run_queue();
    sched_setaffinity(None, &one)?;
    let rival = {
        let over = Arc::clone(&over);
        // It inherits this thread's one core.
        thread::Builder::new().name("rival".to_owned()).spawn(move || crowd_out(&over))
    };
    while clocks::run_queue() - begin < time && rival.is_ok() {
        compute();
    }
    over.store(true, Ordering::Relaxed);
    sched_setaffinity(None, &all)?;
    rival.map(drop)
}

#[inline(never)]
fn crowd_out(over: &AtomicBool) {
    // Of this thread alone. Where it is not allowed, it has half of the core still.
    let _ = setpriority_process(None, RIVAL);
    while !over.load(Ordering::Relaxed) {
        compute();
    }
}

/// Answers each customer as late as asked.
fn supply(listener: &TcpListener) {
    for customer in listener.incoming().flatten() {
        thread::spawn(move || answer(customer));
    }
}

fn answer(mut customer: TcpStream) -> io::Result<()> {
    let mut microseconds = [0; 16];
    customer.read_exact(&mut microseconds)?;
    thread::sleep(Duration::from_micros(u128::from_be_bytes(microseconds) as u64));
    customer.write_all(&[1])
}
