//! Files to take away: what was asked for of a profile, in the format of another tool.

use spanprof_exporter::idle::IdleThreads;
use spanprof_exporter::svg::flame_graph;
use spanprof_exporter::{FoldedRoot, Profile, SampleFilter, SampleKind, folded, pprof, speedscope};

use super::question::{Download, Format};

/// A file for a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exported {
    /// What it holds.
    pub(super) bytes: Vec<u8>,
    /// Its name, of letters, digits, dots, lines and dashes alone.
    pub(super) name: String,
    /// Its media type.
    pub(super) content_type: &'static str,
}

/// Makes a file of a profile; none where nothing of it is meant, or a picture can't be drawn.
pub(super) fn export(profile: &Profile, asked: &Download) -> Option<Exported> {
    let (filter, one) = (&asked.filter, asked.kind.unwrap_or(SampleKind::Cpu));
    let bytes = match asked.format {
        Format::Pprof if asked.kind.is_none() && *filter == SampleFilter::default() => {
            (!profile.is_empty()).then(|| pprof::encode(profile))
        }
        Format::Pprof => {
            let part = profile.selected(filter, asked.kind);
            (!part.is_empty()).then(|| pprof::encode(&part))
        }
        Format::Folded => {
            let text = folded(profile, one, filter, FoldedRoot::ServiceIfSeveral);
            (!text.is_empty()).then(|| text.into_bytes())
        }
        Format::Speedscope => {
            speedscope::encode(profile, asked.kind, filter, "spanprof").map(String::into_bytes)
        }
        Format::Svg => flame_graph(profile, one, filter, IdleThreads::Hidden, "spanprof")
            .ok()
            .flatten()
            .map(String::into_bytes),
    }?;
    let seconds = profile.start_unix_nanoseconds / 1_000_000_000;
    let kind = match (asked.format, asked.kind) {
        (Format::Folded | Format::Svg, _) => format!("-{}", one.as_str()),
        (_, Some(kind)) => format!("-{}", kind.as_str()),
        (_, None) => String::new(),
    };
    let part = if *filter == SampleFilter::default() { "" } else { "-part" };
    let (ending, content_type) = described(asked.format);
    Some(Exported { bytes, name: format!("spanprof-{seconds}{kind}{part}.{ending}"), content_type })
}

/// A window as it was stored.
pub(super) fn stored(bytes: Vec<u8>, name: String) -> Exported {
    Exported { bytes, name, content_type: described(Format::Pprof).1 }
}

fn described(format: Format) -> (&'static str, &'static str) {
    match format {
        Format::Pprof => ("pb.gz", "application/octet-stream"),
        Format::Folded => ("folded", "text/plain; charset=utf-8"),
        Format::Speedscope => ("speedscope.json", "application/json"),
        Format::Svg => ("svg", "image/svg+xml"),
    }
}

#[cfg(test)]
mod tests {
    use spanprof_exporter::{Label, SampleKey, label};

    use super::super::question::Range;
    use super::*;

    #[test]
    fn each_format_holds_what_is_meant_and_has_a_safe_name() {
        let mut profile = Profile::default();
        profile.start_unix_nanoseconds = 7_000_000_000;
        let stack = profile.intern_stack(vec![]);
        for (destination, nanoseconds) in [("orders", 5), ("a\"\r\n../b", 9)] {
            let labels = profile.intern_labels(vec![Label::text(label::DESTINATION, destination)]);
            profile.add(SampleKey { stack, labels, kind: SampleKind::OffCpu }, nanoseconds, 1);
        }
        let asked = |format, kind, destination: Option<&str>| {
            let filter = SampleFilter { destination: destination.map(Into::into), ..SampleFilter::default() };
            export(&profile, &Download { format, range: Range::ALL, kind, filter })
        };
        let off_cpu = Some(SampleKind::OffCpu);
        let total = |exported: Exported| pprof::decode(&exported.bytes).unwrap().total(SampleKind::OffCpu);
        assert_eq!(total(asked(Format::Pprof, None, None).unwrap()), 14);
        let part = asked(Format::Pprof, off_cpu, Some("a\"\r\n../b")).unwrap();
        assert_eq!(part.name, "spanprof-7-off_cpu-part.pb.gz");
        assert_eq!(total(part), 9);
        let folded = asked(Format::Folded, off_cpu, Some("orders")).unwrap();
        assert_eq!(
            (folded.bytes, folded.name.as_str()),
            (b"[no stack] 5\n".to_vec(), "spanprof-7-off_cpu-part.folded")
        );
        assert_eq!(asked(Format::Speedscope, None, None).unwrap().name, "spanprof-7.speedscope.json");
        assert_eq!(asked(Format::Svg, off_cpu, None).unwrap().content_type, "image/svg+xml");
        for format in [Format::Pprof, Format::Folded, Format::Speedscope, Format::Svg] {
            assert_eq!(asked(format, off_cpu, Some("nobody's")), None, "{format:?}");
            assert_eq!(asked(format, Some(SampleKind::Cpu), None), None, "{format:?}");
        }
    }
}
