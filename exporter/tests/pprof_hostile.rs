//! pprof files that somebody made to break the reader, and round trips of whatever a profile can hold.

mod fixture;

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use spanprof_exporter::idle::IdleThreads;
use spanprof_exporter::pprof::{
    DecodeLimits, PprofError, decode, decode_with_limits, encode, encode_uncompressed,
};
use spanprof_exporter::svg::{SvgError, flame_graph};
use spanprof_exporter::{Label, LabelValue, Location, Module, Profile, SampleFilter, SampleKey, SampleKind};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let limits = DecodeLimits { decompressed_bytes: 1 << 20, ..DecodeLimits::default() };
    let error = decode_with_limits(&gzip(&vec![0; 64 << 20]), &limits).unwrap_err();
    assert!(matches!(error, PprofError::TooLarge { limit: 1_048_576 }), "{error}");
    let error = decode_with_limits(&vec![0x08; 2 << 20], &limits).unwrap_err();
    assert!(matches!(error, PprofError::TooLarge { .. }), "{error}");
}

#[test]
fn more_samples_than_allowed_are_refused_before_they_are_decoded() {
    let limits = DecodeLimits { samples: 1_000, ..DecodeLimits::default() };
    let empty_samples = [0x12, 0x00].repeat(1_001);
    let error = decode_with_limits(&empty_samples, &limits).unwrap_err();
    assert!(matches!(error, PprofError::TooMany { what: "samples", limit: 1_000 }), "{error}");
}

#[test]
fn damage_is_told_from_another_format() {
    assert!(matches!(decode(b"").unwrap_err(), PprofError::NotPprof(_)));
    assert!(matches!(decode(b"not a profile at all").unwrap_err(), PprofError::NotPprof(_)));
    let whole = encode(&fixture::profile());
    assert!(matches!(decode(&whole[..whole.len() / 2]).unwrap_err(), PprofError::Gzip(_)));
}

#[test]
fn every_cut_of_a_file_is_an_error_or_a_profile() {
    let whole = encode_uncompressed(&fixture::profile());
    for end in 0..whole.len() {
        let _ = decode(&whole[..end]);
    }
}

#[test]
fn times_that_overflow_saturate() {
    let mut profile = fixture::profile();
    let template = profile.samples()[0].0;
    for (key, _) in profile.samples() {
        profile.add(SampleKey { kind: template.kind, ..key }, u64::MAX / 2, 1);
    }
    let read = decode(&encode(&profile)).unwrap();
    assert_eq!(read.total(template.kind), u64::MAX);
    let all = SampleFilter::default();
    assert!(matches!(
        flame_graph(&read, template.kind, &all, IdleThreads::Hidden, "damaged"),
        Err(SvgError::TooMuchTime { .. })
    ));
    let spans = spanprof_exporter::analysis::spans(&read);
    assert!(spans.iter().any(|span| span.total_ns() > i64::MAX as u64));
}

fn meaning(profile: &Profile) -> BTreeMap<String, u64> {
    let mut meaning = BTreeMap::new();
    for (key, value) in profile.samples() {
        if value.nanoseconds > 0 {
            let labels: Vec<_> =
                profile.labels(key.labels).iter().filter(|label| !is_unwritable(label)).collect();
            let locations: Vec<_> = profile
                .stack(key.stack)
                .iter()
                .map(|id| profile.location(*id))
                .map(|l| (l.address, &l.frames, l.module.map(|module| &profile.modules()[module.index()])))
                .collect();
            *meaning.entry(format!("{:?} {labels:?} {locations:?}", key.kind)).or_default() +=
                value.nanoseconds;
        }
    }
    meaning
}

/// pprof can't tell an empty text from no label.
fn is_unwritable(label: &Label) -> bool {
    label.key.is_empty() || matches!(&label.value, LabelValue::Text(text) if text.is_empty())
}

prop_compose! {
    fn any_module()(
        start in any::<u64>(), end in any::<u64>(), file_offset in any::<u64>(),
        path in "(/[a-z]{1,4}){1,2}(\\.so)?", build_id in "[0-9a-f]{0,8}",
    ) -> Module {
        Module { start, end, file_offset, path: path.into(), build_id: build_id.into() }
    }
}

fn any_label() -> impl Strategy<Value = Label> {
    let key = prop_oneof![Just("span_id".to_owned()), Just("wait".to_owned()), "\\PC{0,5}"];
    prop_oneof![
        (key.clone(), "\\PC{0,6}").prop_map(|(key, text)| Label::text(&key, text)),
        (key, any::<i64>()).prop_map(|(key, number)| Label::number(&key, number)),
    ]
}

/// (module, address, functions with their lines)
type AnyLocation = (Option<usize>, u64, Vec<(String, u32)>);

fn any_location() -> impl Strategy<Value = AnyLocation> {
    let frames = prop::collection::vec(("[a-z\\PC]{1,6}", any::<u32>()), 1..4);
    // The half of the address space that is not the kernel's: what lies there is read back as a program's.
    (prop::option::of(0..4_usize), 0..1_u64 << 63, frames)
}

/// (stack, labels, kind, nanoseconds)
type AnySample = (Vec<usize>, Vec<Label>, usize, u64);

fn any_sample() -> impl Strategy<Value = AnySample> {
    let stack = prop::collection::vec(0..6_usize, 0..6);
    (stack, prop::collection::vec(any_label(), 0..4), 0..SampleKind::ALL.len(), 0..(i64::MAX as u64 / 64))
}

prop_compose! {
    fn any_profile()(
        header in any::<[u32; 3]>(),
        comments in prop::collection::vec("\\PC{0,9}", 0..3),
        modules in prop::collection::vec(any_module(), 1..5),
        locations in prop::collection::vec(any_location(), 1..7),
        samples in prop::collection::vec(any_sample(), 0..30),
    ) -> Profile {
        let mut profile = Profile::default();
        profile.start_unix_nanoseconds = header[0].into();
        profile.duration_nanoseconds = header[1].into();
        profile.period_nanoseconds = header[2].into();
        profile.comments = comments;
        let modules: Vec<_> = modules.into_iter().map(|module| profile.intern_module(module)).collect();
        let locations: Vec<_> = locations
            .into_iter()
            .map(|(module, address, frames)| {
                let module = module.map(|index| modules[index % modules.len()]);
                let frames = frames.iter().map(|(name, line)| fixture::rust(name, *line)).collect();
                profile.intern_location(Location { module, address, frames })
            })
            .collect();
        for (stack, labels, kind, nanoseconds) in samples {
            let stack = stack.iter().map(|index| locations[index % locations.len()]).collect();
            let stack = profile.intern_stack(stack);
            let labels = profile.intern_labels(labels);
            profile.add(SampleKey { stack, labels, kind: SampleKind::ALL[kind] }, nanoseconds, 1);
        }
        profile
    }
}

proptest! {
    #[test]
    fn whatever_a_profile_holds_comes_back(profile in any_profile()) {
        let read = decode(&encode(&profile)).unwrap();
        prop_assert_eq!(meaning(&read), meaning(&profile));
        prop_assert_eq!(&read.comments, &profile.comments);
        prop_assert_eq!(read.period_nanoseconds, profile.period_nanoseconds);
        // Reading and writing again changes nothing more.
        prop_assert_eq!(encode(&decode(&encode(&read)).unwrap()), encode(&read));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes);
        let _ = decode(&gzip(&bytes));
    }

    #[test]
    fn a_damaged_file_never_panics(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = encode_uncompressed(&fixture::profile());
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(read) = decode(&bytes) {
            let _ = encode(&read);
            let _ = spanprof_exporter::analysis::spans(&read);
        }
    }
}
