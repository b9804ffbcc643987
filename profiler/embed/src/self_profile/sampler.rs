//! The sampler: the one thread that looks at all others, and closes the windows.
//!
//! Each round it unwinds what signal handlers have copied, takes the episodes that threads have told of, and visits threads
//! that are in a span: one that is blocked is looked at through `/proc`, without a signal, so that no call of it fails and
//! nothing wakes it. Rounds come at random intervals, so that no rhythm of the service keeps step with them. Visits are
//! bounded: with many threads in spans each is visited less often.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use spanprof_context::SpanContext;

use super::await_waits;
use super::buffers::{Buffers, Sample};
use super::clock::{self, ThreadId};
use super::episode::{ATTRIBUTES_KEPT, ActiveSpan, Episode};
use super::handler;
use super::ledger::{self, Ledger};
use super::modules::Modules;
use super::random::Random;
use super::threads::{Sampling, Threads};
use super::unwinding::{Outcome, Unwinder};
use super::upload::Parcel;
use super::window::{Observation, StackEnd, ThreadTimes, Window};
use crate::await_points::{self, Lost};

/// Between two looks at the list of threads, nanoseconds.
const SCAN_INTERVAL: u64 = 250_000_000;
/// Visits per second over all threads; each takes 6 to 15 microseconds of the sampler.
const VISITS_PER_SECOND: u64 = 400;

/// What the sampler does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The profile's number, by which threads keep their accounts.
    pub(super) profile: u32,
    /// How threads are sampled on the CPU; `None` where that isn't possible.
    pub(super) sampling: Option<Sampling>,
    /// Mean time between two rounds, nanoseconds.
    pub(super) round: u64,
    /// Whether blocked threads are visited.
    pub(super) visits: bool,
    /// How much time a window covers, nanoseconds.
    pub(super) window: u64,
}

pub(super) struct Sampler {
    plan: Plan,
    buffers: &'static Buffers,
    stop: Arc<AtomicBool>,
    upload: SyncSender<Parcel>,
    random: Random,
    threads: Threads,
    unwinder: Unwinder,
    window: Window,
    /// Of episodes that are open across a window's end: the part of which that window has told.
    told: HashMap<ThreadId, Episode>,
    /// What the await points had lost at the last look.
    await_losses: Lost,
    begun: u64,
    process_cpu: u64,
    own_cpu: u64,
    next_scan: u64,
}

impl Sampler {
    pub(super) fn new(
        plan: Plan,
        buffers: &'static Buffers,
        modules: Modules,
        stop: Arc<AtomicBool>,
        upload: SyncSender<Parcel>,
    ) -> Sampler {
        let now = clock::now();
        let mut sampler = Sampler {
            plan,
            buffers,
            stop,
            upload,
            random: Random::new(now),
            threads: Threads::default(),
            unwinder: Unwinder::new(modules),
            window: Window::default(),
            told: HashMap::new(),
            await_losses: await_points::lost(),
            begun: now,
            process_cpu: clock::process_cpu(),
            own_cpu: 0,
            next_scan: 0,
        };
        sampler.begin_window(now);
        sampler.scan(now);
        sampler
    }

    /// Runs until it is told to stop; then closes the window that is open.
    pub(super) fn run(mut self) {
        let mut last = clock::now();
        while !self.stop.load(Ordering::Acquire) {
            let pause = self.plan.round / 2 + self.random.below(self.plan.round);
            std::thread::park_timeout(Duration::from_nanos(pause));
            let now = clock::now();
            self.round(now, now - last);
            last = now;
            if now - self.begun >= self.plan.window {
                self.close_window(now);
            }
        }
        self.close_window(clock::now());
    }

    fn round(&mut self, now: u64, since_last: u64) {
        self.take_samples();
        let mut in_span = Vec::new();
        for account in ledger::all() {
            self.take_episodes(account);
            if let Some((thread, thread_pointer)) = account.thread(self.plan.profile) {
                let losses = &mut self.window.losses;
                self.threads.announce(thread, self.plan.sampling, &mut self.random, &mut losses.timers);
                if account.has_span() {
                    in_span.push((thread, thread_pointer));
                }
            }
        }
        if self.plan.visits {
            self.visit(in_span, since_last);
        }
        if now >= self.next_scan {
            self.scan(now);
        }
    }

    /// Unwinds what the handlers have copied since the last round.
    fn take_samples(&mut self) {
        let (buffers, unwinder, window) = (self.buffers, &mut self.unwinder, &mut self.window);
        buffers.drain(|sample| add_sample(unwinder, window, sample));
    }

    fn take_episodes(&mut self, account: &Ledger) {
        let (told, window) = (&mut self.told, &mut self.window);
        account.drain(|thread, episode| {
            let seen = if told.is_empty() { None } else { told.remove(&thread) };
            let episode = match seen {
                Some(seen) if episode.is_one() && seen.begin == episode.begin => episode.after(&seen),
                _ => episode,
            };
            window.episode(thread, episode);
        });
        self.window.losses.episodes += account.take_lost();
    }

    /// Visits threads that are in a span; some of them, chosen by lot, where they are too many.
    fn visit(&mut self, mut in_span: Vec<(ThreadId, usize)>, since_last: u64) {
        let all = in_span.len() as u64;
        let most = (VISITS_PER_SECOND * self.plan.round / 1_000_000_000).max(1);
        for chosen in 0..all.min(most) {
            let other = chosen + self.random.below(all - chosen);
            in_span.swap(chosen as usize, other as usize);
        }
        in_span.truncate(most as usize);
        // A sampler that was kept from the CPU knows nothing of the time that it missed, so that one look can't stand for it.
        let since_last = since_last.min(2 * self.plan.round);
        let weight = since_last * all / (in_span.len() as u64).max(1);
        for (thread, thread_pointer) in in_span {
            self.visit_one(thread, thread_pointer, weight);
        }
    }

    fn visit_one(&mut self, id: ThreadId, thread_pointer: usize, weight: u64) {
        let Some(thread) = self.threads.get_mut(id).filter(|thread| !thread.is_own) else { return };
        let window = &mut self.window;
        match self.unwinder.visit(id, &mut thread.visitor, thread_pointer) {
            Outcome::Running | Outcome::Gone => {}
            Outcome::Moved => window.losses.visits_moved += 1,
            Outcome::Denied => window.losses.visits_denied += 1,
            Outcome::Blocked(blocked) => {
                let Some(span) = blocked.span else { return };
                window.attributes(span, blocked.attributes);
                let stack = window.stack(blocked.stack.frames, blocked.stack.end);
                window.losses.stacks_cut += u64::from(blocked.stack.end != StackEnd::Root);
                window.visit(Observation { thread: id, at: blocked.at, stack, span: Some(span), weight });
            }
        }
    }

    fn scan(&mut self, now: u64) {
        let window = &mut self.window;
        let mut own = 0;
        let mut failed = 0;
        self.threads.scan(self.plan.sampling, &mut self.random, &mut failed, |id, thread| {
            if thread.is_own {
                own += thread.cpu_in_window();
            } else {
                let times = window.threads.entry(id).or_default();
                times.cpu += thread.cpu_in_window();
                times.name = thread.name;
            }
        });
        self.own_cpu += own;
        window.losses.timers += failed;
        await_waits::collect(window, &mut self.await_losses);
        // Timers first: what they copy can wait until the tables are made.
        self.unwinder.refresh();
        self.next_scan = now + SCAN_INTERVAL;
    }

    fn begin_window(&mut self, now: u64) {
        let period = self.plan.sampling.map_or(0, |sampling| sampling.period);
        self.window = Window::begin(clock::unix(), period);
        self.begun = now;
        self.own_cpu = 0;
    }

    fn close_window(&mut self, now: u64) {
        self.scan(now);
        self.take_samples();
        for account in ledger::all() {
            self.take_episodes(account);
            self.tell_open_episode(account, now);
        }
        let process_cpu = clock::process_cpu();
        let (window, mut own) = (&mut self.window, self.own_cpu);
        self.threads.end_window(|id, thread| {
            if thread.is_own {
                own += thread.cpu_in_window();
                return;
            }
            let times = window.threads.entry(id).or_default();
            *times = ThreadTimes { name: thread.name.clone(), cpu: times.cpu + thread.cpu_in_window() };
        });
        self.settle(process_cpu - self.process_cpu, own);
        self.process_cpu = process_cpu;
        self.window.length = now - self.begun;
        self.window.losses.samples += self.buffers.take_lost();
        self.window.losses.foreign_signals += handler::take_foreign();
        let is_ours = self.plan.sampling.is_none_or(|sampling| handler::is_installed(sampling.signal));
        self.window.losses.handlers += u64::from(!is_ours);
        let parcel =
            Parcel { window: std::mem::take(&mut self.window), modules: self.unwinder.take_modules() };
        self.begin_window(now);
        if let Err(TrySendError::Full(parcel)) = self.upload.try_send(parcel) {
            self.window.losses = parcel.window.losses;
            self.window.losses.windows += 1;
        }
    }

    /// An episode that is open at the window's end is told up to there.
    fn tell_open_episode(&mut self, account: &Ledger, now: u64) {
        let (Some((thread, _)), Some(open)) = (account.thread(self.plan.profile), account.open()) else {
            return;
        };
        let visitor = self.threads.get_mut(thread).and_then(|thread| thread.visitor.as_ref());
        let Some((cpu, run_queue)) = self.unwinder.clocks_of(thread, visitor) else { return };
        if now < open.begin + ledger::READING_INTERVAL {
            return;
        }
        let whole = Episode {
            // Its attributes come with the samples, or with its end.
            span: ActiveSpan::new(open.span, [0; ATTRIBUTES_KEPT], 0),
            begin: open.begin,
            end: now,
            wall: now - open.begin,
            cpu: (open.cpu, cpu.max(open.cpu)),
            run_queue: (open.run_queue, run_queue.max(open.run_queue)),
        };
        let part = match self.told.get(&thread) {
            Some(seen) if seen.begin == whole.begin => whole.after(seen),
            _ => whole,
        };
        self.told.insert(thread, whole);
        self.window.episode(thread, part);
    }

    /// Makes the parts add up to what the process has used.
    fn settle(&mut self, process: u64, own: u64) {
        let mut episodes: HashMap<ThreadId, u64> = HashMap::new();
        for episode in self.window.episodes() {
            *episodes.entry(episode.thread).or_default() += episode.split().0;
        }
        for (thread, cpu) in episodes {
            // A thread that ended may have used more than was seen at the last look.
            let times = self.window.threads.entry(thread).or_default();
            times.cpu = times.cpu.max(cpu);
        }
        let threads: u64 = self.window.threads.values().map(|times| times.cpu).sum();
        self.window.cpu_own = own;
        self.window.cpu_elsewhere = process.saturating_sub(threads + own);
    }
}

fn add_sample(unwinder: &mut Unwinder, window: &mut Window, sample: &Sample) {
    let span: Option<SpanContext> = sample.slot.span();
    if let Some(span) = span {
        window.attributes(span, sample.slot.attributes(&sample.attributes));
    }
    let walked = unwinder.unwind(sample);
    window.losses.stacks_cut += u64::from(walked.end != StackEnd::Root);
    let stack = window.stack(walked.frames, walked.end);
    window.sample(Observation {
        thread: sample.thread,
        at: sample.at,
        stack,
        span,
        weight: u64::from(sample.periods),
    });
}
