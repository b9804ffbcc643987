//! What one window says of its messages: per class how many there were, how long they took and where their time went.

use std::collections::{BTreeSet, HashMap};

use spanprof_exporter::{Label, LabelSetId, Profile, SampleKind, SpanIds, label};

/// Classes of one window; those with the least time become one that has no name.
const MOST_CLASSES: usize = 256;
/// The longest text of a class, in bytes.
const LONGEST_TEXT: usize = 256;

/// What spans have in common that are counted together; texts are empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Class {
    /// The service.
    pub(super) service: String,
    /// The span's name.
    pub(super) name: String,
    /// The topic or queue.
    pub(super) destination: String,
    /// The consumer group.
    pub(super) group: String,
    /// The messaging operation.
    pub(super) operation: String,
}

impl Class {
    /// Of a sample's labels; none where it belongs to no span.
    fn of(labels: &[Label]) -> Option<Class> {
        let text = |key| shortened(text(labels, key).unwrap_or_default());
        let class = Class {
            service: text(label::SERVICE_NAME),
            name: text(label::SPAN_NAME),
            destination: text(label::DESTINATION),
            group: text(label::CONSUMER_GROUP),
            operation: text(label::OPERATION),
        };
        let of_a_span =
            [&class.name, &class.destination, &class.operation].iter().any(|text| !text.is_empty());
        (of_a_span || self::text(labels, label::SPAN_ID).is_some()).then_some(class)
    }
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
    pub(super) classes: Vec<(Class, Point)>,
}

/// What is added up of one class.
#[derive(Default)]
struct Sums {
    times: [u64; 6],
    /// Per span the time that was seen of it, and whether it failed.
    spans: HashMap<SpanIds, (u64, bool)>,
}

impl Overview {
    /// Of a profile.
    pub(super) fn of(profile: &Profile) -> Overview {
        let mut classes: Vec<(Class, Point)> =
            sums(profile).into_iter().map(|(class, sums)| (class, sums.point(profile))).collect();
        classes.sort_by_key(|(_, point)| std::cmp::Reverse(point.times.iter().sum::<u64>()));
        if classes.len() > MOST_CLASSES {
            let rest = classes.split_off(MOST_CLASSES);
            let rest = rest.into_iter().map(|(_, point)| point).reduce(Point::and);
            classes.extend(rest.map(|rest| (Class::default(), rest)));
        }
        classes.sort_by(|(a, _), (b, _)| a.cmp(b));
        let begin_ns = profile.start_unix_nanoseconds;
        Overview { begin_ns, end_ns: begin_ns.saturating_add(profile.duration_nanoseconds), classes }
    }
}

fn sums(profile: &Profile) -> HashMap<Class, Sums> {
    let sets = profile.label_sets();
    let classes: Vec<Option<Class>> = sets.iter().map(|labels| Class::of(labels)).collect();
    let spans: Vec<Option<(SpanIds, bool)>> = sets.iter().map(|labels| span_of(labels)).collect();
    let mut sums: HashMap<Class, Sums> = HashMap::new();
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
    sums
}

impl Sums {
    fn point(self, profile: &Profile) -> Point {
        let told_of = |span: &SpanIds| profile.span_facts.get(span).and_then(|facts| facts.wall_ns);
        let told: BTreeSet<bool> = self.spans.keys().map(|span| told_of(span).is_some()).collect();
        let mut walls: Vec<u64> =
            self.spans.iter().map(|(span, (seen, _))| told_of(span).unwrap_or(*seen)).collect();
        walls.sort_unstable();
        let quantile = |part: usize| match walls.len() {
            0 => 0,
            many => walls[(many * part).div_ceil(100).max(1) - 1],
        };
        Point {
            count: walls.len() as u64,
            failed: self.spans.values().filter(|(_, failed)| *failed).count() as u64,
            told: !told.is_empty() && !told.contains(&false),
            p50_ns: quantile(50),
            p99_ns: quantile(99),
            times: self.times,
        }
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

fn shortened(text: &str) -> String {
    let end = (0..=text.len().min(LONGEST_TEXT)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use spanprof_exporter::{SampleKey, SpanFacts};

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
        let names: Vec<_> = overview.classes.iter().map(|(class, _)| class.destination.as_str()).collect();
        assert_eq!(names, ["audit", "orders"], "what no span had is no traffic");
        let (_, audit) = overview.classes[0];
        assert_eq!((audit.count, audit.told, audit.p99_ns, audit.times[0]), (0, false, 0, 3_000_000));
        let (_, orders) = overview.classes[1];
        assert_eq!((orders.count, orders.failed, orders.told), (101, 1, false));
        assert_eq!((orders.p50_ns, orders.p99_ns), (51_000_000, 100_000_000));
        assert_eq!(orders.times, [5_050_000_000, 500_000_000, 7_000_000, 0, 0, 0]);
    }

    #[test]
    fn what_tracers_told_is_told() {
        let mut profile = Profile::default();
        add(&mut profile, "orders", "1", SampleKind::Cpu, 1);
        let span = SpanIds { trace_id: "t".into(), span_id: "1".into() };
        profile.span_facts.insert(span, SpanFacts { wall_ns: Some(9), ..SpanFacts::default() });
        let (_, orders) = Overview::of(&profile).classes[0].clone();
        assert_eq!((orders.told, orders.p50_ns), (true, 9));
        add(&mut profile, "orders", "2", SampleKind::Cpu, 1);
        assert!(!Overview::of(&profile).classes[0].1.told, "of one nobody told");
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
        assert!(overview.classes.iter().all(|(class, _)| class.destination.len() <= LONGEST_TEXT));
    }
}
