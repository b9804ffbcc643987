//! What a thread knows of its own time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

thread_local! {
    /// The thread's own; every read is fresh.
    static SCHEDULING: io::Result<File> = File::open("/proc/thread-self/schedstat");
}

/// A thread's clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    wall: Instant,
    cpu: Duration,
    run_queue: Duration,
}

/// How far they have gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) run_queue: Duration,
}

impl Clocks {
    /// All as they stood at the begin of the call. Where the thread had to wait for a core between one and the next, they are read
    /// again; what has passed by then was a wait for a core, for reading them blocks on nothing.
    pub(crate) fn read() -> Self {
        let begin = Instant::now();
        let mut before = run_queue();
        loop {
            let (wall, cpu) = (Instant::now(), cpu());
            let after = run_queue();
            if before == after {
                return Self { wall: begin, cpu, run_queue: after.saturating_sub(wall - begin) };
            }
            before = after;
        }
    }

    pub(crate) fn passed(&self) -> Passed {
        let now = Self::read();
        Passed {
            wall: now.wall - self.wall,
            cpu: now.cpu.saturating_sub(self.cpu),
            run_queue: now.run_queue.saturating_sub(self.run_queue),
        }
    }
}

/// How long this thread has run.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// How long this thread has been ready to run without running.
pub(crate) fn run_queue() -> Duration {
    SCHEDULING.with(|file| {
        let file = file.as_ref().expect("the kernel keeps count of threads' waits for a core");
        let mut text = [0; 64];
        let length = file.read_at(&mut text, 0).expect("a thread's count can be read while it lives");
        let text = str::from_utf8(&text[..length]).unwrap_or_default();
        let waited = text.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok());
        Duration::from_nanos(waited.expect("the second number is the wait"))
    })
}
