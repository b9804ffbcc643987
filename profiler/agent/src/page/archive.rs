//! The windows that are kept, what each says in short, and ranges of them added up.
//!
//! Of each window an overview is made once: by the thread that kept it, or, of those that were there before, when somebody asks
//! for them, some at a time. What is asked for goes through a bounded number of windows, the newest first.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use spanprof_exporter::pprof::{DecodeLimits, decode_with_limits};
use spanprof_exporter::stored::{StoredWindow, WindowStore};
use spanprof_exporter::{Profile, SpanClass};

use super::overview::{Overview, Point};
use super::question::Range;

/// How much one question may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Windows that are added up.
    pub(crate) windows: usize,
    /// And their bytes as stored; one window is always read.
    pub(crate) bytes: u64,
    /// What one window may hold.
    pub(crate) decoding: DecodeLimits,
    /// What the last results may take, in bytes.
    pub(crate) cache: usize,
}

impl Bounds {
    /// Beside a capture, whose agent stays small.
    pub(crate) fn beside_a_capture() -> Bounds {
        Bounds {
            windows: 360,
            bytes: 4 << 20,
            decoding: DecodeLimits {
                decompressed_bytes: 64 << 20,
                samples: 500_000,
                locations: 500_000,
                functions: 500_000,
                strings: 1_000_000,
                ..DecodeLimits::default()
            },
            cache: 8 << 20,
        }
    }

    /// In a program that does nothing else.
    pub(crate) fn alone() -> Bounds {
        Bounds { windows: 10_000, bytes: 256 << 20, decoding: DecodeLimits::default(), cache: 64 << 20 }
    }
}

/// Points of overviews that are kept, of the newest windows: 5 MB, and half a day of a dozen destinations.
const MOST_POINTS: usize = 50_000;
/// Classes that are told apart over all windows.
const MOST_CLASSES: usize = 4_096;
/// Windows that one answer lists.
const MOST_LISTED: usize = 10_000;
/// How long one question may read windows of which nothing is known yet.
const LEARNING: Duration = Duration::from_millis(500);
/// How long one may read windows to find those that it is about.
const PATIENCE: Duration = Duration::from_secs(5);
/// How old a list of the place's windows may be.
const LIST_AGE: Duration = Duration::from_secs(1);
/// Windows may begin so long before a range that they end in, where none is known to be longer.
const LONG_WINDOW_NS: u64 = 60_000_000_000;

/// Windows with what is known of them.
pub(crate) struct Archive {
    store: Arc<dyn WindowStore>,
    pub(super) bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listed: Option<(Instant, Vec<StoredWindow>)>,
    /// None of those that are no profile, or hold more than is read.
    known: BTreeMap<StoredWindow, Option<Known>>,
    classes: Vec<SpanClass>,
    numbers: HashMap<SpanClass, u32>,
    points: usize,
    longest_ns: u64,
}

/// What is known of a window.
struct Known {
    begin_ns: u64,
    end_ns: u64,
    /// By class; none where newer windows' took the room.
    points: Option<Vec<(u32, Point)>>,
}

/// The windows of a range that are added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The newest first.
    pub(super) windows: Vec<StoredWindow>,
    /// Older ones of the range that are more than is added up.
    pub(super) left_out: u64,
    /// Those that could not be read.
    pub(super) unreadable: u64,
}

impl Archive {
    /// The windows of a place.
    pub(crate) fn new(store: Arc<dyn WindowStore>, bounds: Bounds) -> Archive {
        Archive { store, bounds, state: Mutex::default() }
    }

    /// Takes note of a window that was just kept.
    pub(crate) fn note(&self, window: StoredWindow, profile: &Profile) {
        let overview = Overview::of(profile);
        let mut state = self.locked();
        state.listed = None;
        state.learn(window, Some(overview));
    }

    /// What there is in a range: windows, and per class a line of points.
    pub(super) fn windows_json(&self, range: Range) -> String {
        let unread = self.learn_range(range);
        let listed = self.listed();
        let state = self.locked();
        let in_range: Vec<_> =
            listed.iter().rev().filter_map(|window| state.in_range(window, range)).collect();
        let mut windows = Vec::new();
        let mut lines: BTreeMap<u32, String> = BTreeMap::new();
        let mut without_series = 0;
        for (window, known) in in_range.into_iter().take(MOST_LISTED).rev() {
            let from = known.begin_ns / 1_000_000;
            windows.push(json!({"from": from, "to": known.end_ns / 1_000_000, "bytes": window.bytes}));
            without_series += u64::from(known.points.is_none());
            for (class, point) in known.points.iter().flatten() {
                push_point(lines.entry(*class).or_default(), from, point);
            }
        }
        let milliseconds = |nanoseconds: u64| nanoseconds / 1_000_000;
        let whole = json!({
            "now": now_milliseconds(),
            "oldest": listed.first().map(|window| milliseconds(state.times(window).0)),
            "newest": listed.last().map(|window| milliseconds(state.times(window).1)),
            "unread": unread,
            "unreadable": state.known.values().filter(|known| known.is_none()).count(),
            "without_series": without_series,
            "windows": windows,
        });
        let mut text = whole.to_string();
        // The points are many and only numbers: they are written as text, which takes a tenth of the memory.
        text.truncate(text.len() - 1);
        text.push_str(",\"series\":[");
        for (position, (number, points)) in lines.into_iter().enumerate() {
            let class = &state.classes[number as usize];
            let class = json!({
                "service": &*class.service, "name": &*class.name, "destination": &*class.destination,
                "group": &*class.group, "operation": &*class.operation,
            });
            let class = class.to_string();
            let comma = if position == 0 { "" } else { "," };
            text.push_str(&format!("{comma}{},\"points\":[{points}]}}", &class[..class.len() - 1]));
        }
        text.push_str("]}");
        text
    }

    /// Which windows a question about a range is answered from.
    pub(super) fn choose(&self, range: Range) -> Chosen {
        let mut chosen = Chosen::default();
        let mut bytes = 0_u64;
        let listed = self.listed();
        let begin = Instant::now();
        for window in listed.iter().rev() {
            if begin_of(window).saturating_add(self.longest_ns()) < range.from_ns {
                break;
            }
            if begin_of(window) >= range.to_ns {
                continue;
            }
            let room = chosen.windows.len() < self.bounds.windows
                && (chosen.windows.is_empty() || bytes + window.bytes <= self.bounds.bytes);
            // What is left out anyway is not read to be counted.
            if room && begin.elapsed() < PATIENCE && !self.locked().known.contains_key(window) {
                self.read(window);
            }
            let state = self.locked();
            let (begin_ns, end_ns) = state.times(window);
            match state.known.get(window) {
                _ if !range.meets(begin_ns, end_ns) => {}
                Some(None) => chosen.unreadable += 1,
                Some(Some(_)) if room => {
                    bytes += window.bytes;
                    chosen.windows.push(*window);
                }
                _ => chosen.left_out += 1,
            }
        }
        chosen
    }

    /// The chosen windows added up; what is gone meanwhile is not in it.
    pub(super) fn merged(&self, chosen: &Chosen) -> Profile {
        let mut whole = Profile::default();
        for window in chosen.windows.iter().rev() {
            if let Some(profile) = self.decoded(window) {
                whole.absorb(&profile);
            }
        }
        whole
    }

    /// One window as it is stored.
    pub(super) fn stored(&self, window: &StoredWindow) -> Option<Vec<u8>> {
        self.store.read(window).ok().flatten()
    }

    fn decoded(&self, window: &StoredWindow) -> Option<Profile> {
        decode_with_limits(&self.stored(window)?, &self.bounds.decoding).ok()
    }

    /// Reads windows of a range of which nothing is known, for a while; gives how many are left.
    fn learn_range(&self, range: Range) -> u64 {
        let begin = Instant::now();
        let mut unread = 0;
        let earliest = range.from_ns.saturating_sub(self.longest_ns());
        for window in self.listed().iter().rev().take(MOST_LISTED) {
            let is_in_range = (earliest..range.to_ns).contains(&begin_of(window));
            let due = is_in_range && !self.locked().known.contains_key(window);
            match due {
                true if begin.elapsed() < LEARNING => self.read(window),
                due => unread += u64::from(due),
            }
        }
        unread
    }

    fn read(&self, window: &StoredWindow) {
        let overview = self.decoded(window).map(|profile| Overview::of(&profile));
        self.locked().learn(*window, overview);
    }

    /// The windows that are there, the oldest first; none where the place can't be read.
    fn listed(&self) -> Vec<StoredWindow> {
        if let Some((when, listed)) = &self.locked().listed
            && when.elapsed() < LIST_AGE
        {
            return listed.clone();
        }
        let listed = self.store.list().unwrap_or_default();
        let mut state = self.locked();
        state.forget_all_but(&listed);
        state.listed = Some((Instant::now(), listed.clone()));
        listed
    }

    /// So long before a range windows may begin that end in it.
    fn longest_ns(&self) -> u64 {
        // A window's name leaves out parts of a second.
        self.locked().longest_ns.max(LONG_WINDOW_NS).saturating_add(1_000_000_000)
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // What is known is set whole under this lock, whatever happened to another thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn learn(&mut self, window: StoredWindow, overview: Option<Overview>) {
        let known = overview.map(|Overview { begin_ns, end_ns, classes }| {
            self.longest_ns = self.longest_ns.max(end_ns - begin_ns);
            let mut points: BTreeMap<u32, Point> = BTreeMap::new();
            for (class, point) in classes {
                let number = self.number(class);
                points.entry(number).and_modify(|sum| *sum = sum.and(point)).or_insert(point);
            }
            Known { begin_ns, end_ns, points: Some(points.into_iter().collect()) }
        });
        self.points += points_of(known.as_ref());
        if let Some(before) = self.known.insert(window, known) {
            self.points -= points_of(before.as_ref());
        }
        let mut oldest = self.known.values_mut();
        while self.points > MOST_POINTS
            && let Some(known) = oldest.next()
        {
            self.points -= points_of(known.as_ref());
            if let Some(known) = known {
                known.points = None;
            }
        }
    }

    /// When a window began and ended; as far as its name says it, where it was not read yet.
    fn times(&self, window: &StoredWindow) -> (u64, u64) {
        match self.known.get(window) {
            Some(Some(known)) => (known.begin_ns, known.end_ns),
            _ => (begin_of(window), begin_of(window)),
        }
    }

    fn in_range(&self, window: &StoredWindow, range: Range) -> Option<(StoredWindow, &Known)> {
        let known = self.known.get(window)?.as_ref()?;
        range.meets(known.begin_ns, known.end_ns).then_some((*window, known))
    }

    /// A class's number; 0 for those that there is no room for.
    fn number(&mut self, class: SpanClass) -> u32 {
        if self.classes.is_empty() {
            self.classes.push(SpanClass::other());
            self.numbers.insert(SpanClass::other(), 0);
        }
        match self.numbers.get(&class) {
            Some(number) => *number,
            None if self.classes.len() == MOST_CLASSES => 0,
            None => {
                let number = self.classes.len() as u32;
                self.classes.push(class.clone());
                self.numbers.insert(class, number);
                number
            }
        }
    }

    fn forget_all_but(&mut self, listed: &[StoredWindow]) {
        let points = &mut self.points;
        self.known.retain(|window, known| {
            let stays = listed.binary_search(window).is_ok();
            *points -= if stays { 0 } else { points_of(known.as_ref()) };
            stays
        });
    }
}

fn points_of(known: Option<&Known>) -> usize {
    known.and_then(|known| known.points.as_ref()).map_or(0, Vec::len)
}

/// When a window began, as its name says it.
fn begin_of(window: &StoredWindow) -> u64 {
    window.seconds.saturating_mul(1_000_000_000)
}

fn push_point(line: &mut String, from: u64, point: &Point) {
    let Point { count, failed, told, p50_ns, p99_ns, times } = *point;
    let comma = if line.is_empty() { "" } else { "," };
    // Writing into a string can't fail.
    let _ = write!(line, "{comma}[{from},{count},{failed},{},{p50_ns},{p99_ns}", u8::from(told));
    for time in times {
        let _ = write!(line, ",{time}");
    }
    line.push(']');
}

/// The time of day, in milliseconds since the Unix epoch.
pub(super) fn now_milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
