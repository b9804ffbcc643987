//! What one window says of its messages: per class how many there were, how long they took and where their time went.

use std::collections::HashMap;

use spanprof_exporter::{Counted, Label, LabelSetId, Profile, SampleKind, SpanClass, SpanIds, label};

/// Classes of one window; those with the least time become one.
const MOST_CLASSES: usize = 256;

/// The class of a sample's span; none where it belongs to no span.
fn class_of(labels: &[Label]) -> Option<SpanClass> {
    let shortened = |key| SpanClass::text(text(labels, key).unwrap_or_default());
    let class = SpanClass {
        service: shortened(label::SERVICE_NAME),
        name: shortened(label::SPAN_NAME),
        destination: shortened(label::DESTINATION),
        group: shortened(label::CONSUMER_GROUP),
        operation: shortened(label::OPERATION),
    };
    let of_a_span = [&class.name, &class.destination, &class.operation].iter().any(|text| !text.is_empty());
    (of_a_span || text(labels, label::SPAN_ID).is_some()).then_some(class)
}

/// One class in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Point {
    /// How many spans.
    pub(super) count: u64,
    /// How many of them failed.
    pub(super) failed: u64,
    /// Whether tracers told of them; else they are those that were seen, which are fewer than there were.
    pub(super) told: bool,
    /// How long one in two of them took at most, in nanoseconds; 0 where there are none.
    pub(super) p50_ns: u64,
    /// How long 99 in 100 took at most, in nanoseconds.
    pub(super) p99_ns: u64,
    /// Nanoseconds per kind, in the order of [`SampleKind::ALL`].
    pub(super) times: [u64; 6],
}

impl Point {
    /// Of two classes together; without quantiles, which don't add up.
    pub(super) fn and(mut self, other: Point) -> Point {
        self.count = self.count.saturating_add(other.count);
        self.failed = self.failed.saturating_add(other.failed);
        self.told &= other.told;
        (self.p50_ns, self.p99_ns) = (0, 0);
        for (sum, time) in self.times.iter_mut().zip(other.times) {
            *sum = sum.saturating_add(time);
        }
        self
    }
}

/// One window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Overview {
    /// When it began, in nanoseconds since the Unix epoch.
    pub(super) begin_ns: u64,
    /// And ended.
    pub(super) end_ns: u64,
    /// Its classes, by name.
    pub(super) classes: Vec<(SpanClass, Point)>,
}

/// What is added up of one class.
#[derive(Default)]
struct Sums {
    times: [u64; 6],
    /// What tracers told, and what was seen where none did, of all spans.
    counted: [Option<Counted>; 2],
    /// Per span that kept its ids the time that was seen of it, and whether it failed.
    spans: HashMap<SpanIds, (u64, bool)>,
}

impl Overview {
    /// Of a profile.
    pub(super) fn of(profile: &Profile) -> Overview {
        let mut classes: Vec<(SpanClass, Point)> =
            sums(profile).into_iter().map(|(class, sums)| (class, sums.point())).collect();
        classes.sort_by_key(|(_, point)| std::cmp::Reverse(point.times.iter().sum::<u64>()));
        if classes.len() > MOST_CLASSES {
            let rest = classes.split_off(MOST_CLASSES);
            let rest = rest.into_iter().map(|(_, point)| point).reduce(Point::and);
            classes.extend(rest.map(|rest| (SpanClass::other(), rest)));
        }
        classes.sort_by(|(a, _), (b, _)| a.cmp(b));
        let begin_ns = profile.start_unix_nanoseconds;
        Overview { begin_ns, end_ns: begin_ns.saturating_add(profile.duration_nanoseconds), classes }
    }
}

fn sums(profile: &Profile) -> HashMap<SpanClass, Sums> {
    let sets = profile.label_sets();
    let classes: Vec<Option<SpanClass>> = sets.iter().map(|labels| class_of(labels)).collect();
    let spans: Vec<Option<(SpanIds, bool)>> = sets.iter().map(|labels| span_of(labels)).collect();
    let mut sums: HashMap<SpanClass, Sums> = HashMap::new();
    for (key, value) in profile.samples() {
        let set: LabelSetId = key.labels;
        let Some(class) = &classes[set.index()] else { continue };
        let sums = match sums.get_mut(class) {
            Some(sums) => sums,
            None => sums.entry(class.clone()).or_default(),
        };
        let time = &mut sums.times[position(key.kind)];
        *time = time.saturating_add(value.nanoseconds);
        if let Some((span, failed)) = &spans[set.index()] {
            let (seen, has_failed) = sums.spans.entry(span.clone()).or_default();
            *seen = seen.saturating_add(value.nanoseconds);
            *has_failed |= failed;
        }
    }
    for (key, row) in profile.traffic.iter() {
        let counted = &mut sums.entry(key.class.clone()).or_default().counted[key.source as usize];
        counted.get_or_insert_default().merge(row);
    }
    sums
}

impl Sums {
    fn point(self) -> Point {
        let [told, seen] = &self.counted;
        match (told, seen) {
            (Some(told), _) => Point { told: true, ..counted(told, self.times) },
            (None, Some(seen)) => counted(seen, self.times),
            (None, None) => self.point_of_kept_spans(),
        }
    }

    /// Of a file in which nothing is counted: what its samples say.
    fn point_of_kept_spans(self) -> Point {
        let mut all = Counted::default();
        for (seen, failed) in self.spans.values() {
            all.add(*seen, 1, *failed);
        }
        counted(&all, self.times)
    }
}

fn counted(counted: &Counted, times: [u64; 6]) -> Point {
    let quantile = |part| counted.durations.quantile(part).unwrap_or(0);
    Point {
        count: counted.spans,
        failed: counted.failed,
        told: false,
        p50_ns: quantile(0.5),
        p99_ns: quantile(0.99),
        times,
    }
}

/// The span that a sample is of, and whether it failed; none of a batch's share, which is no part of the span's own time.
fn span_of(labels: &[Label]) -> Option<(SpanIds, bool)> {
    if text(labels, label::SHARE).is_some() {
        return None;
    }
    let span_id = text(labels, label::SPAN_ID)?.to_owned();
    let trace_id = text(labels, label::TRACE_ID).unwrap_or_default().to_owned();
    Some((SpanIds { trace_id, span_id }, text(labels, label::KEPT) == Some("failed")))
}

fn position(kind: SampleKind) -> usize {
    kind as usize
}

fn text<'a>(labels: &'a [Label], key: &str) -> Option<&'a str> {
    labels.iter().find(|label| &*label.key == key).and_then(|label| label.value.as_text())
}

#[cfg(test)]
mod tests {
    use spanprof_exporter::{SampleKey, Source, SpanKind, TrafficKey};

    use super::*;

    fn add(profile: &mut Profile, destination: &str, span: &str, kind: SampleKind, milliseconds: u64) {
        let mut labels = vec![Label::text(label::DESTINATION, destination)];
        if !span.is_empty() {
            labels.push(Label::text(label::SPAN_ID, span));
            labels.push(Label::text(label::TRACE_ID, "t"));
        }
        if span.starts_with("failed") {
            labels.push(Label::text(label::KEPT, "failed"));
        }
        let (stack, labels) = (profile.intern_stack(vec![]), profile.intern_labels(labels));
        profile.add(SampleKey { stack, labels, kind }, milliseconds * 1_000_000, 1);
    }

    #[test]
    fn a_class_has_its_time_and_the_spans_that_were_seen() {
        let mut profile = Profile::default();
        (profile.start_unix_nanoseconds, profile.duration_nanoseconds) = (5_000, 100);
        for number in 1..=100 {
            add(&mut profile, "orders", &format!("{number}"), SampleKind::Cpu, number);
        }
        add(&mut profile, "orders", "failed 1", SampleKind::OffCpu, 500);
        add(&mut profile, "orders", "", SampleKind::RunQueue, 7);
        add(&mut profile, "audit", "", SampleKind::Cpu, 3);
        let nobody = profile.intern_labels(vec![Label::text(label::SERVICE_NAME, "consumer")]);
        let stack = profile.intern_stack(vec![]);
        profile.add(SampleKey { stack, labels: nobody, kind: SampleKind::OffCpu }, 1, 1);

        let overview = Overview::of(&profile);
        assert_eq!((overview.begin_ns, overview.end_ns), (5_000, 5_100));
        let names: Vec<_> = overview.classes.iter().map(|(class, _)| &*class.destination).collect();
        assert_eq!(names, ["audit", "orders"], "what no span had is no traffic");
        let (_, audit) = overview.classes[0].clone();
        assert_eq!((audit.count, audit.told, audit.p99_ns, audit.times[0]), (0, false, 0, 3_000_000));
        let (_, orders) = overview.classes[1].clone();
        assert_eq!((orders.count, orders.failed, orders.told), (101, 1, false));
        let near = |found: u64, truth: u64| found.abs_diff(truth) * 8 < truth;
        assert!(near(orders.p50_ns, 51_000_000) && near(orders.p99_ns, 100_000_000), "{orders:?}");
        assert_eq!(orders.times, [5_050_000_000, 500_000_000, 7_000_000, 0, 0, 0]);
    }

    #[test]
    fn what_tracers_told_goes_before_what_was_seen_and_that_before_what_kept_its_ids() {
        let mut profile = Profile::default();
        add(&mut profile, "orders", "1", SampleKind::Cpu, 1);
        let class = SpanClass { destination: "orders".into(), ..SpanClass::default() };
        let mut count = |source, kind, spans: u64, nanoseconds| {
            let mut counted = Counted::default();
            (0..spans).for_each(|number| counted.add(nanoseconds, 32, number == 0));
            profile.traffic.add(TrafficKey { class: class.clone(), kind, source }, &counted);
            let (_, orders) = Overview::of(&profile).classes[0].clone();
            (orders.count, orders.failed, orders.told, orders.times[0])
        };
        assert_eq!(count(Source::Seen, SpanKind::Internal, 7, 1_000), (7, 1, false, 1_000_000));
        assert_eq!(count(Source::Told, SpanKind::Consumer, 20, 1_000), (20, 1, true, 1_000_000));
        assert_eq!(count(Source::Told, SpanKind::Producer, 10, 1_000), (30, 2, true, 1_000_000));
        profile.traffic.add(
            TrafficKey {
                class: SpanClass { destination: "audit".into(), ..class },
                kind: SpanKind::Consumer,
                source: Source::Told,
            },
            &Counted::default(),
        );
        assert_eq!(Overview::of(&profile).classes.len(), 2, "also what has no sample");
    }

    #[test]
    fn many_classes_with_long_names_stay_bounded_and_keep_their_time() {
        let mut profile = Profile::default();
        for number in 0..2 * MOST_CLASSES {
            add(&mut profile, &format!("{number}{}", "ü".repeat(40_000)), "", SampleKind::Cpu, 1);
        }
        let overview = Overview::of(&profile);
        assert_eq!(overview.classes.len(), MOST_CLASSES + 1);
        let sum: u64 = overview.classes.iter().map(|(_, point)| point.times[0]).sum();
        assert_eq!(sum, profile.total(SampleKind::Cpu));
        assert!(overview.classes.iter().all(|(class, _)| class.destination.len() <= 256));
    }
}
