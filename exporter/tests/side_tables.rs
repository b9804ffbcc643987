//! What a file knows beside its samples: it comes back, never stands in the way, and nothing in it is trusted.

mod fixture;

use fixture::{SLOW_SPAN, TRACE, profile_with_side_tables};
use proptest::prelude::*;
use spanprof_exporter::pprof::{DecodeLimits, decode, decode_with_limits, encode, encode_uncompressed};
use spanprof_exporter::{
    Counted, Profile, Source, SpanClass, SpanFacts, SpanKind, SpanRef, ToldSpan, TrafficKey, WokenBy,
    analysis,
};

fn assert_same(read: &Profile, written: &Profile) {
    assert_eq!(read.span_facts, written.span_facts);
    assert_eq!(read.wakers, written.wakers);
    assert_eq!(read.relatives, written.relatives);
    assert_eq!(read.traffic, written.traffic);
}

#[test]
fn all_of_it_comes_back() {
    let written = profile_with_side_tables();
    let read = decode(&encode(&written)).unwrap();
    assert_same(&read, &written);
    assert_eq!(read.comments, written.comments, "nothing is said to be missing");
    let spans = analysis::spans(&read);
    let slow = spans.iter().find(|span| span.span_id == SLOW_SPAN).unwrap();
    assert_eq!((slow.wall_ns, slow.batch_size, slow.head_of_line_ns), (Some(681_500_000), 32, 7));
    assert_eq!(read.wakers.of(Some(TRACE), SLOW_SPAN)[0].cause, "worker-2 in orders::release");
    assert_eq!(spans, analysis::spans(&written), "a stored window tells what a fresh one does");
}

#[test]
fn tables_one_behind_the_other_add_up() {
    let one = encode_uncompressed(&profile_with_side_tables());
    let read = decode(&[&*one, &side_table(&one)].concat()).unwrap();
    let counted = |profile: &Profile| profile.traffic.iter().map(|(_, row)| row.spans).sum::<u64>();
    assert_eq!(counted(&read), 2 * counted(&profile_with_side_tables()));
}

/// The field with its key and length, as the last thing in a message.
fn side_table(message: &[u8]) -> Vec<u8> {
    let without = encode_uncompressed(&fixture::profile_with_tasks());
    message[without.len()..].to_vec()
}

/// A field of bytes.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    [&bytes, content].concat()
}

/// The fixture's samples with something else beside them.
fn with(beside: &[u8]) -> Vec<u8> {
    [&encode_uncompressed(&fixture::profile()), beside].concat()
}

/// Reads it; says how many records are said to be missing.
fn missing(file: &[u8]) -> Option<u64> {
    let read = decode(file).expect("samples are read whatever stands beside them");
    assert_eq!(read.samples().len(), fixture::profile().samples().len());
    let told =
        read.comments.iter().find(|comment| comment.ends_with("beside the samples could not be read"))?;
    told.split(' ').next()?.parse().ok()
}

#[test]
fn what_is_broken_is_counted_and_the_samples_are_read() {
    let version = [8, 1];
    let records = [
        // A span's ids of another length; a class that isn't there; no text; a kind that isn't one.
        field(3, &field(1, &[7; 23])),
        field(5, &[field(1, &[7; 24]), vec![3 << 3, 5, 4 << 3, 9]].concat()),
        field(2, &field(1, b"\xff\xfe")),
        field(4, &field(1, &[7; 24])),
        field(7, &[1 << 3, 0, 2 << 3, 77]),
        field(3, &[0xff; 5]),
    ];
    for record in &records {
        assert_eq!(missing(&with(&field(1_000, &[&version[..], record].concat()))), Some(1), "{record:?}");
    }
    let all = [&version[..], &records.concat()].concat();
    assert_eq!(missing(&with(&field(1_000, &all))), Some(records.len() as u64));
    // The end is cut off; it begins with nonsense.
    assert_eq!(missing(&with(&field(1_000, &[&version[..], &[0x1a, 99, 1]].concat()))), Some(1));
    assert_eq!(missing(&with(&field(1_000, &[0xff; 40]))), Some(1));
}

#[test]
fn another_producers_field_of_that_number_is_its_own() {
    // A number, eight bytes, four bytes.
    assert_eq!(missing(&with(&[0xc0, 0x3e, 7])), None);
    assert_eq!(missing(&with(&[0xc1, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8])), None);
    assert_eq!(missing(&with(&[0xc5, 0x3e, 1, 2, 3, 4])), None);
    assert_eq!(missing(&with(&field(1_001, &[0xff; 40]))), None);
}

#[test]
fn a_newer_version_is_passed_over() {
    let newer = [&[8, 2][..], &field(3, &field(1, &[7; 24]))].concat();
    assert_eq!(missing(&with(&field(1_000, &newer))), Some(1));
    assert!(decode(&with(&field(1_000, &newer))).unwrap().span_facts.is_empty());
}

#[test]
fn what_is_larger_than_allowed_is_not_read() {
    let file = encode(&profile_with_side_tables());
    let limits = DecodeLimits { side_table_bytes: 10, ..DecodeLimits::default() };
    let read = decode_with_limits(&file, &limits).unwrap();
    assert!(read.span_facts.is_empty() && read.relatives.is_empty() && !read.is_empty());
    assert!(read.comments.iter().any(|comment| comment.starts_with("1 records beside")));
}

#[test]
fn a_flood_is_bounded() {
    let version = vec![8, 1];
    let chain = |number: u64| {
        let ids = [&[7; 16][..], &number.to_be_bytes()].concat();
        field(4, &[field(1, &ids), field(2, &[8, 1]).repeat(32)].concat())
    };
    let chains: Vec<u8> = (0..21_000).flat_map(chain).collect();
    assert_eq!(missing(&with(&field(1_000, &[version.clone(), chains].concat()))), Some(1_000));
    let long = field(4, &[field(1, &[7; 24]), field(2, &[8, 1]).repeat(33)].concat());
    assert_eq!(missing(&with(&field(1_000, &[version, long].concat()))), Some(1));
}

#[test]
fn a_directory_of_windows_adds_up_to_the_capture() {
    let mut whole = Profile::default();
    for _ in 0..3 {
        whole.absorb(&decode(&encode(&profile_with_side_tables())).unwrap());
    }
    let one = profile_with_side_tables();
    assert_eq!((&whole.span_facts, &whole.wakers), (&one.span_facts, &one.wakers));
    let spans: Vec<u64> = whole.traffic.iter().map(|(_, row)| row.spans).collect();
    assert_eq!((spans, whole.relatives.len()), (vec![300, 300], 2));
    assert_eq!(whole.relatives.number_left_out(), 9);
}

fn any_span() -> impl Strategy<Value = SpanRef> {
    (any::<[u8; 16]>(), any::<[u8; 8]>()).prop_map(|(trace_id, span_id)| SpanRef { trace_id, span_id })
}

fn any_class() -> impl Strategy<Value = SpanClass> {
    prop::array::uniform5("\\PC{0,40}").prop_map(|texts| {
        let [service, name, destination, group, operation] = texts.map(|text| SpanClass::text(&text));
        SpanClass { service, name, destination, group, operation }
    })
}

fn any_kind() -> impl Strategy<Value = SpanKind> {
    prop::sample::select(SpanKind::ALL.to_vec())
}

prop_compose! {
    fn any_told()(
        span in any_span(), parent_id in any::<Option<[u8; 8]>>(), kind in any_kind(), class in any_class(),
        begin_unix_ns in any::<u64>(), wall_ns in any::<u64>(), failed in any::<bool>(),
        batch_size in any::<Option<u32>>(), attempt in any::<Option<u32>>(),
        links in prop::collection::vec(any_span(), 0..5),
    ) -> ToldSpan {
        ToldSpan { span, parent_id, kind, class, begin_unix_ns, wall_ns, failed, batch_size, attempt, links }
    }
}

prop_compose! {
    fn any_facts()(
        begin_unix_ns in any::<Option<u64>>(), wall_ns in any::<Option<u64>>(), failed in any::<bool>(),
        children_ns in any::<u64>(), batch_size in any::<u32>(), head_of_line_ns in any::<u64>(),
    ) -> SpanFacts {
        SpanFacts { begin_unix_ns, wall_ns, failed, children_ns, batch_size, head_of_line_ns }
    }
}

prop_compose! {
    fn any_link()(
        nanoseconds in 1_u64.., cause in "\\PC{0,40}", pid in any::<Option<u32>>(),
        thread in prop::option::of("\\PC{0,20}"), frames in prop::collection::vec("\\PC{0,40}", 0..5),
    ) -> WokenBy {
        WokenBy { nanoseconds, cause, pid, tid: pid, thread, frames, ..WokenBy::default() }
    }
}

prop_compose! {
    fn any_profile()(
        facts in prop::collection::vec((any_span(), any_facts()), 0..5),
        chains in prop::collection::vec((any_span(), prop::collection::vec(any_link(), 1..4)), 0..5),
        told in prop::collection::vec(any_told(), 0..6),
        traffic in prop::collection::vec(
            (any_class(), any_kind(), any::<bool>(), prop::collection::vec((any::<u64>(), any::<u32>(), any::<bool>()), 0..9)),
            0..5,
        ),
        left_out in any::<u64>(),
    ) -> Profile {
        let mut profile = fixture::profile();
        profile.span_facts.extend(facts.into_iter().map(|(span, facts)| (span.into(), facts)));
        for (span, chain) in chains {
            profile.wakers.insert(&span.trace_id_hex(), &span.span_id_hex(), chain);
        }
        told.into_iter().for_each(|told| profile.relatives.insert(told));
        profile.relatives.left_out(left_out);
        for (class, kind, is_told, spans) in traffic {
            let mut counted = Counted::default();
            for (wall, messages, failed) in spans {
                counted.add(wall, messages.into(), failed);
            }
            let source = if is_told { Source::Told } else { Source::Seen };
            profile.traffic.add(TrafficKey { class, kind, source }, &counted);
        }
        profile
    }
}

proptest! {
    #[test]
    fn whatever_is_known_comes_back(profile in any_profile()) {
        let read = decode(&encode(&profile)).unwrap();
        assert_same(&read, &profile);
        prop_assert_eq!(&read.comments, &profile.comments);
        prop_assert_eq!(encode(&decode(&encode(&read)).unwrap()), encode(&read));
    }

    #[test]
    fn damage_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = encode_uncompressed(&profile_with_side_tables());
        let (end, length) = (bytes.len(), side_table(&bytes).len());
        for (index, byte) in damage {
            bytes[end - 1 - index.index(length)] = byte;
        }
        if let Ok(read) = decode(&bytes) {
            let _ = encode(&read);
            let _ = analysis::spans(&read);
        }
    }

    #[test]
    fn random_content_never_hides_the_samples(content in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = missing(&with(&field(1_000, &content)));
        let _ = missing(&with(&field(1_000, &[&[8, 1], &*content].concat())));
    }
}
