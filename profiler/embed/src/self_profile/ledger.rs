//! Exact times per span: each thread keeps its own account of how long it had which span, and what it did meanwhile.
//!
//! An *episode* is a stretch of a thread under one span, from one change of what it publishes to the next. At its end
//! the thread reads its clocks (CPU time, time in the run queue) and hands the sampler the episode's exact times: samples
//! say *where* the time went, the thread's own clocks *how much* it was.
//!
//! **Readings are rationed**: a thread reads its clocks when it has not for [`READING_INTERVAL`], so at most 2,000 times a
//! second, a microsecond each. Between readings only a stamp is taken. An episode of at least that length always ends with a
//! reading; at its begin, the last one is less than an interval old, and what lies between counts as CPU time of what came
//! before. So an episode's split is wrong by less than the interval. Shorter episodes are added up per span
//! ([`super::brief`]).
//!
//! Refused: clocks at every change (0.7 µs, at 150,000 changes a second a tenth of a core), and visits alone
//! (at 99 visits a second a span of half a second is known to 7 points only).
//!
//! One thread writes, the sampler reads. The account is found through the thread's own storage, made at its first span and
//! taken over by a later thread when it ends; all accounts together are as many as there ever were threads at once.

use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use spanprof_context::{SpanContext, SpanId, TraceId, reading, thread};

use super::brief::BriefEpisodes;
use super::clock::{self, ThreadId};
use super::descriptors::KeptOpen;
use super::episode::{ActiveSpan, Episode};
use super::schedstat::ScheduleStatistics;

/// The shortest time between two readings of a thread's clocks, and the shortest episode with an account of its own.
pub(super) const READING_INTERVAL: u64 = 500_000;
/// How often sums of shorter ones are told, nanoseconds.
const BRIEF_INTERVAL: u64 = 10_000_000;
/// Episodes that wait for the sampler, per thread: twice as many as can be made between two of its rounds.
const CAPACITY: usize = 64;

/// The thread's clocks at one moment.
#[derive(Clone, Copy, Default)]
struct Reading {
    at: u64,
    cpu: u64,
    run_queue: u64,
}

/// An episode that is still open, as the sampler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenEpisode {
    pub(super) span: SpanContext,
    pub(super) begin: u64,
    /// The thread's CPU time at the begin.
    pub(super) cpu: u64,
    /// The thread's time in the run queue at the begin.
    pub(super) run_queue: u64,
}

const FREE: u32 = 0;
const IN_USE: u32 = 1;
const ENDED: u32 = 2;

/// One thread's account.
pub(super) struct Ledger {
    state: AtomicU32,
    /// Of which profile the account is; the numbers of others count for nothing.
    generation: AtomicU32,
    thread: AtomicU32,
    thread_pointer: AtomicUsize,
    /// The episode that is open, for the sampler: odd while it changes.
    version: AtomicU32,
    has_span: AtomicBool,
    open: [AtomicU64; 6],
    /// Only the account's thread touches these.
    own: UnsafeCell<Own>,
    written: AtomicU32,
    read: AtomicU32,
    episodes: [UnsafeCell<Episode>; CAPACITY],
    lost: AtomicU64,
    next: AtomicPtr<Ledger>,
}

struct Own {
    /// Whether the thread has a span, …
    has_span: bool,
    /// … and which.
    span: ActiveSpan,
    since: u64,
    last: Reading,
    brief: BriefEpisodes,
    /// When the short episodes were last told.
    told_at: u64,
    /// CPU time since then that longer episodes don't account for.
    brief_cpu: u64,
    /// `None` where too many files are open already: the run queue then counts as blocked.
    statistics: Option<(ScheduleStatistics, KeptOpen)>,
}

// SAFETY: `own` is touched by the account's thread alone; an entry of `episodes` by it before `written` passes the
// entry, by the sampler until `read` does. Everything else is atomic.
unsafe impl Sync for Ledger {}

static ALL: AtomicPtr<Ledger> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// Null before the thread's first span, dangling after its end.
    static OWN: Cell<*const Ledger> = const { Cell::new(ptr::null()) };
    static AT_EXIT: HandOver = const { HandOver };
}

const THREAD_ENDS: *const Ledger = ptr::without_provenance(1);

struct HandOver;

impl Ledger {
    /// The thread has another span, or none, from `now` on: `take` writes it and says whether there is one. Called by
    /// the account's thread alone.
    #[inline]
    fn change(&self, generation: u32, now: u64, take: impl FnOnce(&mut ActiveSpan) -> bool) {
        // SAFETY: the account's thread alone gets here, and nothing below comes back here.
        let own = unsafe { &mut *self.own.get() };
        if self.generation.load(Ordering::Relaxed) != generation {
            self.begin(own, now);
            self.generation.store(generation, Ordering::Release);
        }
        let now = now.max(own.since);
        let is_long = now - own.since >= READING_INTERVAL;
        if own.has_span && !is_long {
            own.brief.add(&own.span, own.since, now, |made_room| self.hand_over(made_room));
        }
        if now.saturating_sub(own.last.at) >= READING_INTERVAL {
            self.read_clocks(own, now, is_long);
        }
        own.has_span = take(&mut own.span);
        own.since = now;
        self.tell(own);
    }

    /// Reads the clocks, and tells what is now known exactly.
    #[cold]
    fn read_clocks(&self, own: &mut Own, now: u64, is_long: bool) {
        let reading = own.read(now);
        let mut used = reading.cpu.saturating_sub(own.last.cpu);
        if own.has_span && is_long {
            let (cpu, run_queue) = own.at_begin();
            let episode = Episode {
                span: own.span,
                begin: own.since,
                end: now,
                wall: now - own.since,
                cpu: (cpu, reading.cpu),
                run_queue: (run_queue, reading.run_queue),
            };
            used = used.saturating_sub(episode.split().0);
            self.hand_over(&episode);
        }
        own.brief_cpu += used;
        if now - own.told_at >= BRIEF_INTERVAL {
            let cpu = std::mem::take(&mut own.brief_cpu);
            own.brief.take(cpu, |sum| self.hand_over(sum));
            own.told_at = now;
        }
        own.last = reading;
    }

    /// Begins an account: for a new thread, a new profile, or a child of `fork`, whose thread has another id.
    #[cold]
    fn begin(&self, own: &mut Own, now: u64) {
        let statistics =
            KeptOpen::ask(1).and_then(|kept| Some((ScheduleStatistics::of_calling_thread().ok()?, kept)));
        let run_queue = statistics
            .as_ref()
            .and_then(|(statistics, _)| statistics.read())
            .map_or(0, |read| read.run_queue);
        let last = Reading { at: now, cpu: clock::own_cpu(), run_queue };
        *own = Own { since: now, last, told_at: now, statistics, ..Own::default() };
        // SAFETY: has no arguments.
        self.thread.store(unsafe { libc::gettid() } as u32, Ordering::Relaxed);
        self.thread_pointer.store(reading::thread_pointer(), Ordering::Release);
    }

    /// Gives the sampler an episode; one more than it has room for is lost, and counted.
    fn hand_over(&self, episode: &Episode) {
        let written = self.written.load(Ordering::Relaxed);
        if written.wrapping_sub(self.read.load(Ordering::Acquire)) as usize >= CAPACITY {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // SAFETY: the sampler reads entries before `written` alone, and this one is at least a round behind it.
        unsafe { *self.episodes[written as usize % CAPACITY].get() = *episode };
        self.written.store(written.wrapping_add(1), Ordering::Release);
    }

    /// Lets the sampler see the episode that has just begun.
    fn tell(&self, own: &Own) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        if own.has_span {
            let span = &own.span.context;
            let (cpu, run_queue) = own.at_begin();
            let trace = u128::from_ne_bytes(span.trace_id.0);
            let words = [
                trace as u64,
                (trace >> 64) as u64,
                u64::from_ne_bytes(span.span_id.0),
                own.since,
                cpu,
                run_queue,
            ];
            for (place, word) in self.open.iter().zip(words) {
                place.store(word, Ordering::Relaxed);
            }
        }
        self.has_span.store(own.has_span, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }
}

/// What the sampler asks.
impl Ledger {
    /// The thread that keeps this account for a profile, and its thread pointer; `None` if nobody does.
    pub(super) fn thread(&self, generation: u32) -> Option<(ThreadId, usize)> {
        let is_kept = self.generation.load(Ordering::Acquire) == generation
            && self.state.load(Ordering::Acquire) == IN_USE;
        is_kept.then(|| {
            (self.thread.load(Ordering::Relaxed) as ThreadId, self.thread_pointer.load(Ordering::Relaxed))
        })
    }

    /// Whether the thread has a span now.
    pub(super) fn has_span(&self) -> bool {
        self.has_span.load(Ordering::Relaxed)
    }

    /// The open episode; `None` without a span, or while it changes.
    pub(super) fn open(&self) -> Option<OpenEpisode> {
        let version = self.version.load(Ordering::Acquire);
        if !version.is_multiple_of(2) || !self.has_span() {
            return None;
        }
        let [low, high, span, begin, cpu, run_queue] =
            self.open.each_ref().map(|word| word.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if self.version.load(Ordering::Relaxed) != version {
            return None;
        }
        let trace = u128::from(low) | u128::from(high) << 64;
        let span = SpanContext::new(TraceId(trace.to_ne_bytes()), SpanId(span.to_ne_bytes()), 0);
        Some(OpenEpisode { span, begin, cpu, run_queue })
    }

    /// Takes the ended episodes, oldest first, then frees the account if its thread has ended. For one sampler at a time.
    pub(super) fn drain(&self, mut take: impl FnMut(ThreadId, Episode)) {
        let has_ended = self.state.load(Ordering::Acquire) == ENDED;
        let thread = self.thread.load(Ordering::Relaxed) as ThreadId;
        let mut read = self.read.load(Ordering::Relaxed);
        while read != self.written.load(Ordering::Acquire) {
            // SAFETY: written before `written` passed it, and not written again before `read` does.
            take(thread, unsafe { *self.episodes[read as usize % CAPACITY].get() });
            read = read.wrapping_add(1);
            self.read.store(read, Ordering::Release);
        }
        if has_ended {
            self.state.store(FREE, Ordering::Release);
        }
    }

    /// Episodes that found no room since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Default for Own {
    fn default() -> Own {
        Own {
            has_span: false,
            span: ActiveSpan::NOBODY,
            since: 0,
            last: Reading::default(),
            brief: BriefEpisodes::default(),
            told_at: 0,
            brief_cpu: 0,
            statistics: None,
        }
    }
}

impl Own {
    /// Reads the calling thread's clocks.
    fn read(&self, at: u64) -> Reading {
        let run_queue = self.statistics.as_ref().and_then(|(statistics, _)| statistics.read());
        let run_queue = run_queue.map_or(self.last.run_queue, |read| read.run_queue);
        Reading { at, cpu: clock::own_cpu(), run_queue }
    }

    /// The clocks at the begin of the open episode: as last read, and what went by since then counts as CPU time.
    fn at_begin(&self) -> (u64, u64) {
        (self.last.cpu + self.since.saturating_sub(self.last.at), self.last.run_queue)
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        let ledger = OWN.replace(THREAD_ENDS);
        // SAFETY: set by `register` to an account, none of which is ever freed.
        let Some(ledger) = (unsafe { ledger.as_ref() }) else { return };
        let generation = ledger.generation.load(Ordering::Relaxed);
        let now = clock::now();
        ledger.change(generation, now, |_| false);
        // SAFETY: this thread's own account, and the borrow of the call above has ended.
        let own = unsafe { &mut *ledger.own.get() };
        own.brief.take(u64::MAX, |sum| ledger.hand_over(sum));
        own.statistics = None;
        ledger.state.store(ENDED, Ordering::Release);
    }
}

/// The calling thread publishes something else than before; `generation` is the number of the profile that runs, not 0.
pub(super) fn changed(generation: u32) {
    let mut ledger = OWN.get();
    if ledger.is_null() {
        if thread::current().is_none() {
            return;
        }
        ledger = register();
    }
    if ledger == THREAD_ENDS {
        return;
    }
    // SAFETY: neither null nor dangling, so set by `register` to an account, none of which is ever freed.
    unsafe { &*ledger }.change(generation, clock::now(), ActiveSpan::take_published);
}

/// Takes a free account, or makes one. It counts from the next change on.
#[cold]
fn register() -> *const Ledger {
    AT_EXIT.with(|_| {});
    let ledger = all().find(|ledger| {
        ledger.state.compare_exchange(FREE, IN_USE, Ordering::Acquire, Ordering::Relaxed).is_ok()
    });
    let ledger = ledger.unwrap_or_else(new_ledger);
    ledger.generation.store(0, Ordering::Relaxed);
    OWN.set(ledger);
    ledger
}

fn new_ledger() -> &'static Ledger {
    let ledger: &'static Ledger = Box::leak(Box::new(Ledger {
        state: AtomicU32::new(IN_USE),
        generation: AtomicU32::new(0),
        thread: AtomicU32::new(0),
        thread_pointer: AtomicUsize::new(0),
        version: AtomicU32::new(0),
        has_span: AtomicBool::new(false),
        open: [const { AtomicU64::new(0) }; 6],
        own: UnsafeCell::new(Own::default()),
        written: AtomicU32::new(0),
        read: AtomicU32::new(0),
        episodes: [Episode::EMPTY; CAPACITY].map(UnsafeCell::new),
        lost: AtomicU64::new(0),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    let mut head = ALL.load(Ordering::Relaxed);
    loop {
        ledger.next.store(head, Ordering::Relaxed);
        let new = ptr::from_ref(ledger).cast_mut();
        match ALL.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return ledger,
            Err(current) => head = current,
        }
    }
}

/// Every account there is, in use or not.
pub(super) fn all() -> impl Iterator<Item = &'static Ledger> {
    // SAFETY: accounts are leaked, and `next` is set before an account is reachable.
    let follow = |pointer: *mut Ledger| unsafe { pointer.as_ref() };
    std::iter::successors(follow(ALL.load(Ordering::Acquire)), move |ledger| {
        follow(ledger.next.load(Ordering::Relaxed))
    })
}

#[cfg(test)]
mod tests {
    use super::super::episode::tests::span;
    use super::*;

    fn spin(nanoseconds: u64) {
        let begin = clock::own_cpu();
        while clock::own_cpu() - begin < nanoseconds {}
    }

    fn enter(span: &SpanContext) {
        thread::set(span);
        changed(1);
    }

    fn leave() {
        thread::clear();
        changed(1);
    }

    fn own_account() -> &'static Ledger {
        // SAFETY: has no arguments.
        let own = unsafe { libc::gettid() };
        all()
            .find(|ledger| ledger.thread(1).is_some_and(|(thread, _)| thread == own))
            .expect("it has an account")
    }

    #[test]
    fn an_episode_s_times_are_the_thread_s_own() {
        std::thread::spawn(|| {
            enter(&span(1));
            let (begin, cpu) = (clock::now(), clock::own_cpu());
            spin(5_000_000);
            std::thread::sleep(std::time::Duration::from_millis(7));
            let (wall, cpu) = (clock::now() - begin, clock::own_cpu() - cpu);
            leave();
            let mut episodes = Vec::new();
            own_account().drain(|_, episode| episodes.push(episode));
            let [episode] = episodes[..] else { panic!("{episodes:?}") };
            assert!(episode.span.is(&span(1)));
            let (on, off, queue) = episode.split();
            assert_eq!(on + off + queue, episode.end - episode.begin);
            assert!(on.abs_diff(cpu) < READING_INTERVAL, "{on} of {cpu}");
            assert!(off + queue + READING_INTERVAL >= wall - cpu, "{off} + {queue} of {}", wall - cpu);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_open_episode_is_seen() {
        std::thread::spawn(|| {
            enter(&span(2));
            let account = own_account();
            let open = account.open().expect("a span is active");
            assert_eq!(open.span, span(2));
            leave();
            assert_eq!(account.open(), None);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn an_account_is_taken_over_when_its_thread_has_ended() {
        let run = || {
            std::thread::spawn(|| {
                enter(&span(4));
                ptr::from_ref(own_account()).addr()
            })
            .join()
            .unwrap()
        };
        let mut used = std::collections::HashSet::new();
        for _ in 0..200 {
            used.insert(run());
            // Those of other tests' threads are theirs.
            let ended = all().filter(|ledger| ledger.thread(1).is_none());
            ended.for_each(|ledger| ledger.drain(|_, _| {}));
        }
        assert!(used.len() < 50, "{} accounts for threads that came one after the other", used.len());
    }

    #[test]
    fn many_short_episodes_add_up() {
        std::thread::spawn(|| {
            let account = || own_account();
            let (mut told, begin) = (0, clock::own_cpu());
            while clock::own_cpu() - begin < 30_000_000 {
                enter(&span(6));
                spin(50_000);
                leave();
                account().drain(|_, episode| told += episode.split().0);
            }
            spin(READING_INTERVAL);
            enter(&span(7));
            leave();
            account().drain(|_, episode| told += episode.split().0);
            let used = clock::own_cpu() - begin;
            // All but what is told with the next round; the sums cover most of what was used, and no more than that.
            assert!(told <= used && told >= used / 2, "{told} of {used}");
        })
        .join()
        .unwrap();
    }
}
