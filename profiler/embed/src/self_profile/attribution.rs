//! Who spent how much time where: exact times from the threads' own clocks, places from samples and visits.
//!
//! A pure function of a window. Per episode (a stretch of a thread under one span, of which the thread itself told the times)
//! the CPU time is shared equally by the samples that fell into it, the blocked time by the visits; where none did, the time
//! stands under a frame that says so, and the run queue always does. What a thread ran outside of its episodes is shared by
//! its other samples, so that every thread's shares add up to its CPU time. A visit outside of episodes (to a short
//! stretch) counts the mean time between two visits.
//!
//! Refused: charging the time since the last visit to the place that the next one finds. It is biased by up to eight
//! points, as what precedes a visit depends on the place.

use std::collections::HashMap;

use spanprof_context::SpanContext;
use spanprof_exporter::SampleKind;

use super::clock::ThreadId;
use super::episode::Stretch;
use super::window::{AttributesNumber, Observation, StackNumber, Window};

/// Where time was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    /// On this stack.
    Stack(StackNumber),
    /// Nobody saw where; the text says what is known.
    Unseen(&'static str),
}

/// On the CPU while no sample was taken.
pub(super) const NOT_SAMPLED: &str = "[on CPU between samples]";
/// Blocked while nobody looked.
pub(super) const NOT_VISITED: &str = "[blocked between visits]";
/// Runnable: from inside, nobody can see where.
pub(super) const IN_RUN_QUEUE: &str = "[ready to run]";
/// Threads that began and ended between two looks at the list of threads.
pub(super) const BRIEF_THREADS: &str = "[threads too brief to be seen]";
/// A task that waits somewhere that could not be told.
pub(super) const UNKNOWN_AWAIT: &str = "[await at an unknown place]";
/// Its stack had no room in the window.
pub(super) const STACK_LOST: &str = "[stack lost]";

/// A part of the window's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// `None` where no single thread had it.
    pub(super) thread: Option<ThreadId>,
    pub(super) span: Option<SpanContext>,
    /// Where the span isn't told.
    pub(super) attributes: Option<AttributesNumber>,
    pub(super) place: Place,
    pub(super) kind: SampleKind,
    pub(super) nanoseconds: u64,
    pub(super) count: u64,
}

/// Attributes the window's time.
pub(super) fn attribute(window: &Window) -> Vec<Share> {
    let mut shares = Vec::new();
    let mut samples = by_thread(&window.samples);
    let mut visits = by_thread(&window.visits);
    let mut in_episodes: HashMap<ThreadId, u64> = HashMap::new();
    for episode in window.episodes() {
        let thread = episode.thread;
        let (cpu, off_cpu, run_queue) = episode.split();
        *in_episodes.entry(thread).or_default() += cpu;
        let sampled = take_of(&mut samples, episode);
        share(
            &mut shares,
            SampleKind::Cpu,
            cpu,
            &sampled,
            |one| one.weight,
            || unseen(episode, NOT_SAMPLED, SampleKind::Cpu),
        );
        // Short stretches were hardly ever blocked; who was visited in one, counts by itself.
        let visited = if episode.is_one() { take_of(&mut visits, episode) } else { Vec::new() };
        share(
            &mut shares,
            SampleKind::OffCpu,
            off_cpu,
            &visited,
            |_| 1,
            || unseen(episode, NOT_VISITED, SampleKind::OffCpu),
        );
        if run_queue > 0 {
            let share = unseen(episode, IN_RUN_QUEUE, SampleKind::RunQueue);
            shares.push(Share { nanoseconds: run_queue, ..share });
        }
    }
    for (thread, times) in &window.threads {
        let told = in_episodes.get(thread).copied().unwrap_or(0);
        let rest = samples.remove(thread).unwrap_or_default();
        share(
            &mut shares,
            SampleKind::Cpu,
            times.cpu.saturating_sub(told),
            &rest,
            |one| one.weight,
            || Share { thread: Some(*thread), ..unplaced(NOT_SAMPLED) },
        );
    }
    let mut elsewhere = window.cpu_elsewhere;
    for rest in samples.into_values() {
        let periods: u64 = rest.iter().map(|one| one.weight).sum();
        let cpu = elsewhere.min(periods.saturating_mul(window.period));
        elsewhere -= cpu;
        share(&mut shares, SampleKind::Cpu, cpu, &rest, |one| one.weight, || unplaced(BRIEF_THREADS));
    }
    if elsewhere > 0 {
        shares.push(Share { nanoseconds: elsewhere, ..unplaced(BRIEF_THREADS) });
    }
    for visit in visits.into_values().flatten() {
        shares.push(Share { nanoseconds: visit.weight, ..observed(&visit, SampleKind::OffCpu) });
    }
    for wait in window.waits() {
        let place = wait.stack.map_or(Place::Unseen(UNKNOWN_AWAIT), Place::Stack);
        for (kind, nanoseconds) in [(SampleKind::Suspended, wait.suspended), (SampleKind::Ready, wait.ready)]
        {
            if nanoseconds > 0 {
                shares.push(Share {
                    thread: None,
                    span: wait.span,
                    attributes: wait.attributes,
                    place,
                    kind,
                    nanoseconds,
                    count: wait.count,
                });
            }
        }
    }
    shares
}

/// The observations of each thread, in the order of time.
fn by_thread(observations: &[Observation]) -> HashMap<ThreadId, Vec<Observation>> {
    let mut threads: HashMap<ThreadId, Vec<Observation>> = HashMap::new();
    for observation in observations {
        threads.entry(observation.thread).or_default().push(*observation);
    }
    for observations in threads.values_mut() {
        observations.sort_by_key(|observation| observation.at);
    }
    threads
}

/// Takes out what was seen of a thread within an episode, under its span.
fn take_of(threads: &mut HashMap<ThreadId, Vec<Observation>>, episode: &Stretch) -> Vec<Observation> {
    let Some(observations) = threads.get_mut(&episode.thread) else { return Vec::new() };
    let from = observations.partition_point(|observation| observation.at < episode.begin);
    let until = observations.partition_point(|observation| observation.at <= episode.end);
    let is_its = |observation: &Observation| observation.span.is_some_and(|span| episode.is_of(&span));
    let (its, others): (Vec<_>, Vec<_>) = observations.drain(from..until.max(from)).partition(is_its);
    observations.splice(from..from, others);
    its
}

/// Shares time among observations by weight, to the nanosecond; without any, it goes to `otherwise`.
fn share(
    shares: &mut Vec<Share>,
    kind: SampleKind,
    nanoseconds: u64,
    among: &[Observation],
    weight: impl Fn(&Observation) -> u64,
    otherwise: impl FnOnce() -> Share,
) {
    if nanoseconds == 0 {
        return;
    }
    let all: u64 = among.iter().map(&weight).sum();
    if all == 0 {
        shares.push(Share { nanoseconds, ..otherwise() });
        return;
    }
    let up_to = |weight: u64| (u128::from(nanoseconds) * u128::from(weight) / u128::from(all)) as u64;
    let mut before = 0;
    for observation in among {
        let after = before + weight(observation);
        let part = up_to(after) - up_to(before);
        shares.push(Share { nanoseconds: part, ..observed(observation, kind) });
        before = after;
    }
}

fn observed(observation: &Observation, kind: SampleKind) -> Share {
    Share {
        thread: Some(observation.thread),
        span: observation.span,
        attributes: None,
        place: observation.stack.map_or(Place::Unseen(STACK_LOST), Place::Stack),
        kind,
        nanoseconds: 0,
        count: 1,
    }
}

/// CPU time of which neither place nor span is known.
fn unplaced(words: &'static str) -> Share {
    let (place, kind) = (Place::Unseen(words), SampleKind::Cpu);
    Share { thread: None, span: None, attributes: None, place, kind, nanoseconds: 0, count: 0 }
}

fn unseen(episode: &Stretch, words: &'static str, kind: SampleKind) -> Share {
    Share {
        thread: Some(episode.thread),
        span: Some(episode.span),
        attributes: None,
        place: Place::Unseen(words),
        kind,
        nanoseconds: 0,
        count: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::episode::Episode;
    use super::super::episode::tests::{active, span};
    use super::super::window::{StackEnd, Suspended, ThreadTimes};
    use super::*;

    fn sum(shares: &[Share], which: impl Fn(&Share) -> bool) -> u64 {
        shares.iter().filter(|share| which(share)).map(|share| share.nanoseconds).sum()
    }

    fn window() -> (Window, [Option<StackNumber>; 2]) {
        let mut window = Window::default();
        let stacks = [window.stack(&[1, 2], StackEnd::Root), window.stack(&[3, 2], StackEnd::Root)];
        let times = ThreadTimes { name: "worker".into(), cpu: 1000 };
        window.threads.insert(7, times);
        let span = active(1);
        window.episode(
            7,
            Episode { span, begin: 100, end: 1100, wall: 1000, cpu: (0, 301), run_queue: (0, 99) },
        );
        (window, stacks)
    }

    #[test]
    fn an_episode_s_exact_times_are_shared_by_what_was_seen_in_it() {
        let (mut window, [first, second]) = window();
        let seen = |at, stack, weight| Observation { thread: 7, at, stack, span: Some(span(1)), weight };
        window.samples = vec![seen(1100, second, 1), seen(100, first, 2), seen(1101, first, 1)];
        window.visits = vec![seen(200, first, 10), seen(300, second, 10), seen(400, second, 10)];
        let shares = attribute(&window);
        let of = |kind, stack: Option<StackNumber>| {
            sum(&shares, |share| share.kind == kind && share.place == Place::Stack(stack.unwrap()))
        };
        // What the thread ran outside of the episode belongs to the sample after it.
        assert_eq!(of(SampleKind::Cpu, first), 200 + (1000 - 301));
        assert_eq!(of(SampleKind::Cpu, second), 101);
        assert_eq!((of(SampleKind::OffCpu, first), of(SampleKind::OffCpu, second)), (200, 400));
        assert_eq!(sum(&shares, |share| share.kind == SampleKind::RunQueue), 99);
    }

    #[test]
    fn what_nobody_saw_is_said_to_be_so_and_totals_are_exact() {
        let (mut window, _) = window();
        window.cpu_elsewhere = 50;
        let shares = attribute(&window);
        assert_eq!(sum(&shares, |share| share.kind == SampleKind::Cpu), 1050);
        assert_eq!(sum(&shares, |share| share.kind == SampleKind::Cpu && share.span.is_some()), 301);
        assert_eq!(sum(&shares, |share| share.place == Place::Unseen(NOT_VISITED)), 600);
        assert_eq!(sum(&shares, |share| share.place == Place::Unseen(BRIEF_THREADS)), 50);
    }

    #[test]
    fn another_span_s_observations_stay_outside_of_the_episode() {
        let (mut window, [first, _]) = window();
        let other = Observation { thread: 7, at: 500, stack: first, span: Some(span(2)), weight: 1 };
        let elsewhere = Observation { thread: 8, ..other };
        window.samples = vec![other, elsewhere];
        window.visits = vec![Observation { weight: 40, ..other }];
        let shares = attribute(&window);
        let of_other = |kind| sum(&shares, |share| share.span == Some(span(2)) && share.kind == kind);
        assert_eq!(of_other(SampleKind::Cpu), 699);
        assert_eq!(
            of_other(SampleKind::OffCpu),
            40,
            "a visit to a short stretch counts the time between two"
        );
    }

    #[test]
    fn samples_of_a_thread_that_has_ended_take_from_what_nobody_accounts_for() {
        let mut window = Window::begin(0, 30);
        window.cpu_elsewhere = 100;
        let stack = window.stack(&[1], StackEnd::Root);
        window.samples = vec![Observation { thread: 9, at: 5, stack, span: Some(span(4)), weight: 2 }];
        let shares = attribute(&window);
        assert_eq!(sum(&shares, |share| share.span == Some(span(4))), 60);
        assert_eq!(sum(&shares, |share| share.place == Place::Unseen(BRIEF_THREADS)), 40);
    }

    #[test]
    fn a_task_s_waits_go_through() {
        let mut window = Window::default();
        let wait = Suspended {
            span: Some(span(3)),
            attributes: None,
            stack: None,
            suspended: 70,
            ready: 5,
            count: 2,
        };
        window.suspended(wait, &[]);
        let shares = attribute(&window);
        assert_eq!(sum(&shares, |share| share.kind == SampleKind::Suspended), 70);
        assert_eq!(sum(&shares, |share| share.kind == SampleKind::Ready), 5);
        assert!(shares.iter().all(|share| share.place == Place::Unseen(UNKNOWN_AWAIT)));
    }
}
