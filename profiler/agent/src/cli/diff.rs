//! `spanprof diff`: what slow messages do that normal ones don't, or a recording that an earlier one did not.

mod json;
mod text;

use std::path::{Path, PathBuf};

use clap::Args;
use spanprof_exporter::analysis::{Difference, MessageClass, Messages, Side, Times, messages};
use spanprof_exporter::idle::IdleSamples;
use spanprof_exporter::svg::{DifferencePart, differential_flame_graph};

use super::exit::{Exit, Failure};
use super::{Outcome, recording_file, stdout};

/// Say what slow messages do that normal ones don't, or what changed between two recordings
///
/// Of one recording it compares messages: per destination, consumer group and operation, the slow ones with the
/// normal ones, by what falls to one message, on and off the CPU together. A message is a span that kept its id;
/// `attach` labels the slow and failed ones, and keeps some normal ones beside them.
///
/// Of two recordings it compares what falls to one second of each, all threads together; the waiting of idle
/// threads is left out.
#[derive(Debug, Args)]
#[command(
    after_long_help = EXAMPLES,
    override_usage = "spanprof diff [OPTIONS] BEFORE AFTER\n       spanprof diff [OPTIONS] FILE --slow-vs-normal"
)]
pub(super) struct DiffArguments {
    /// Pprof files, or directories that `record` or `attach --dir` wrote: of the latter all windows, added up
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    files: Vec<PathBuf>,
    /// Compare the slow messages of one recording with its normal ones
    #[arg(long, conflicts_with = "failed_vs_normal")]
    slow_vs_normal: bool,
    /// Compare the failed messages of one recording with its normal ones
    #[arg(long)]
    failed_vs_normal: bool,
    /// Only this topic or queue
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Only this consumer group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// At most this many lines per table; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Write a differential flame graph, too
    ///
    /// As wide as a slow message's time, or a second of AFTER; red is more than in a normal one, or BEFORE, blue is
    /// less.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  spanprof diff /var/lib/spanprof --slow-vs-normal
      All windows that `attach --dir` wrote there: where slow messages of each destination and
      group spend more time than normal ones, by cause and by function.
  spanprof diff spanprof-out --slow-vs-normal --destination orders --group billing --svg slow.svg
      One consumer group, and a differential flame graph.
  spanprof diff monday/profile.pb.gz tuesday/profile.pb.gz --json
      What a second of Tuesday's recording has more or less of than one of Monday's.

The table of causes adds up to the whole difference. A function's time is its own and that of
what it called; OWN is how much more its own is.";

/// What the two sides, and what their time falls to, are called.
struct Words {
    subject: &'static str,
    baseline: &'static str,
    one: &'static str,
}

const SLOW: Words = Words { subject: "slow", baseline: "normal", one: "message" };
const FAILED: Words = Words { subject: "failed", baseline: "normal", one: "message" };
const RECORDINGS: Words = Words { subject: "after", baseline: "before", one: "second" };

pub(super) fn run(arguments: &DiffArguments) -> Outcome {
    let words = match (arguments.slow_vs_normal, arguments.failed_vs_normal) {
        (true, _) => Some(&SLOW),
        (false, true) => Some(&FAILED),
        (false, false) => None,
    };
    match (words, arguments.files.as_slice()) {
        (Some(words), [file]) => of_messages(arguments, file, words),
        (None, [before, after]) => of_recordings(arguments, before, after),
        (Some(_), _) => Err(Failure::new(Exit::Usage, "messages are compared within one recording")
            .help("give one file, or two without --slow-vs-normal and --failed-vs-normal")),
        (None, _) => Err(Failure::new(Exit::Usage, "one recording alone has nothing to be compared with")
            .help("give two, or compare its messages with --slow-vs-normal")),
    }
}

/// One class's messages that are asked about, beside its normal ones.
struct Compared<'a> {
    class: &'a MessageClass,
    difference: Difference<'a>,
    /// Those that are neither, where that is worth a word.
    others: &'a Side<'a>,
}

impl<'a> Compared<'a> {
    fn new(messages: &'a Messages<'a>, words: &Words) -> Compared<'a> {
        let (subject, others) = match words.subject == SLOW.subject {
            true => (&messages.slow, &messages.failed),
            false => (&messages.failed, &messages.slow),
        };
        let difference = Difference { subject, baseline: &messages.normal };
        Compared { class: &messages.class, difference, others }
    }

    /// Whether there are messages on both sides.
    fn has_both(&self) -> bool {
        self.difference.subject.amount() > 0.0 && self.difference.baseline.amount() > 0.0
    }

    /// How much longer its messages took in all, for the order of the classes.
    fn excess(&self) -> f64 {
        self.difference.more(self.difference.total()) * self.difference.subject.amount()
    }
}

fn of_messages(arguments: &DiffArguments, file: &Path, words: &Words) -> Outcome {
    let recording = recording_file::read(file)?;
    let classes = messages(&recording.profile);
    if classes.is_empty() {
        return Err(Failure::new(Exit::NothingMatched, "the recording holds no span with an id")
            .help("`spanprof doctor --pid PID` says whether a service publishes its spans"));
    }
    let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
    let meant = classes.iter().filter(|messages| {
        is(&arguments.destination, &messages.class.destination)
            && is(&arguments.group, &messages.class.consumer_group)
    });
    let mut compared: Vec<Compared<'_>> = meant.map(|messages| Compared::new(messages, words)).collect();
    if compared.is_empty() {
        return Err(none_of_this());
    }
    compared.sort_by(|a, b| b.has_both().cmp(&a.has_both()).then_with(|| b.excess().total_cmp(&a.excess())));
    match arguments.json {
        true => stdout::write_json(&json::of_messages(&compared, words, arguments.limit))?,
        false => stdout::write(&text::of_messages(&compared, words, arguments.limit))?,
    }
    let parts = compared.iter().filter(|compared| compared.has_both());
    let parts = parts.map(|compared| DifferencePart {
        name: text::class(compared.class),
        difference: compared.difference,
    });
    draw(arguments, &parts.collect::<Vec<_>>(), words)
}

fn none_of_this() -> Failure {
    Failure::new(Exit::NothingMatched, "the recording holds nothing of this destination and group")
        .help("list what it holds: spanprof show FILE --by destination")
}

fn of_recordings(arguments: &DiffArguments, before: &Path, after: &Path) -> Outcome {
    let recordings = [recording_file::read(before)?, recording_file::read(after)?];
    for (recording, path) in recordings.iter().zip([before, after]) {
        if recording.nanoseconds == 0 {
            let sentence = format!("{} does not say how long was recorded", path.display());
            return Err(Failure::new(Exit::Failed, sentence)
                .help("only recordings that do can be compared by the second"));
        }
    }
    let sides = recordings.each_ref().map(|recording| {
        let seconds = recording.nanoseconds as f64 / 1e9;
        let (destination, group) = (arguments.destination.as_deref(), arguments.group.as_deref());
        Side::of_recording(&recording.profile, seconds, destination, group)
    });
    if sides.iter().all(|side| side.times() == Times::default()) {
        return Err(none_of_this());
    }
    let is_filtered = arguments.destination.is_some() || arguments.group.is_some();
    let idle = recordings.each_ref().map(|recording| match is_filtered {
        // What has a destination is never idle.
        true => 0,
        false => IdleSamples::of(&recording.profile).times(&recording.profile).total_ns(),
    });
    let [before, after] = &sides;
    let difference = Difference { subject: after, baseline: before };
    match arguments.json {
        true => stdout::write_json(&json::of_recordings(&difference, idle, arguments.limit))?,
        false => stdout::write(&text::of_recordings(&difference, idle, arguments.limit))?,
    }
    draw(arguments, &[DifferencePart { name: "after".into(), difference }], &RECORDINGS)
}

fn draw(arguments: &DiffArguments, parts: &[DifferencePart<'_>], words: &Words) -> Outcome {
    let Some(path) = &arguments.svg else { return Ok(Exit::Done) };
    let Words { subject, baseline, one } = words;
    let what = if *one == "message" { "messages" } else { "recording" };
    let title = format!("{subject} {what} beside {baseline}");
    let subtitle =
        format!("as wide as the time of one {one}, {subject}; red: more than {baseline}, blue: less");
    let drawn = differential_flame_graph(parts, &title, &subtitle, one)
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let Some(svg) = drawn else {
        let sentence = format!("there is no flame graph: {subject} has no time beside {baseline}");
        return Err(Failure::new(Exit::NothingMatched, sentence));
    };
    std::fs::write(path, svg)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display())))?;
    eprintln!("wrote {}", path.display());
    Ok(Exit::Done)
}
