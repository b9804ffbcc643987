//! How long things took, counted in bins that add up: exact for the buckets of metrics, good for quantiles.
//!
//! Each decade from a microsecond on has 32 bins, 5 to 12 percent wide, whose edges are round numbers: all bounds that
//! OpenTelemetry's conventions give for messaging's histograms are among them. So one count serves a table's percentiles,
//! Prometheus and OTLP, and adding windows up loses nothing.
//!
//! Refused: OpenTelemetry's exponential buckets and `sketches-ddsketch`, for no bound of the conventions is an edge of theirs.

/// Up to this, in nanoseconds, is one bin.
const SHORTEST_NS: u64 = 1_000;
/// Decades above it: up to 1,000 s. What is longer is one bin.
const DECADES: u16 = 9;
const BINS_PER_DECADE: u16 = 32;
/// The bin of what is longer than all others hold.
const LAST: u16 = DECADES * BINS_PER_DECADE + 1;

/// Counted durations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Durations {
    /// Bins that hold something with their counts, in order: a class's times are alike, and leave most of the bins empty.
    bins: Vec<(u16, u64)>,
    count: u64,
    sum_ns: u64,
    longest_ns: u64,
}

impl Durations {
    /// Counts one that took so long.
    pub fn add(&mut self, nanoseconds: u64) {
        self.add_to(bin_of(nanoseconds), 1);
        self.sum_ns = self.sum_ns.saturating_add(nanoseconds);
        self.longest_ns = self.longest_ns.max(nanoseconds);
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Durations) {
        for (bin, count) in &other.bins {
            self.add_to(*bin, *count);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }

    fn add_to(&mut self, bin: u16, count: u64) {
        match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(place) => self.bins[place].1 = self.bins[place].1.saturating_add(count),
            Err(place) => self.bins.insert(place, (bin, count)),
        }
        self.count = self.count.saturating_add(count);
    }

    /// From what [`Durations::bins`] and the others told; none where there are no such bins, or they are out of order.
    pub(crate) fn from_bins(
        bins: impl Iterator<Item = (u32, u64)>,
        sum_ns: u64,
        longest_ns: u64,
    ) -> Option<Durations> {
        let mut durations = Durations { sum_ns, longest_ns, ..Durations::default() };
        for (bin, count) in bins {
            let bin = u16::try_from(bin).ok().filter(|bin| *bin <= LAST)?;
            if durations.bins.last().is_some_and(|(last, _)| *last >= bin) {
                return None;
            }
            durations.bins.push((bin, count));
            durations.count = durations.count.saturating_add(count);
        }
        Some(durations)
    }

    /// The bins that hold something, in order, with how many each holds.
    pub(crate) fn bins(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.bins.iter().copied()
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All together, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The longest, in nanoseconds.
    pub fn longest_ns(&self) -> u64 {
        self.longest_ns
    }

    /// How many took at most so long, in nanoseconds. Exact where that is an edge, as all of [`BUCKETS_NS`] are; else those of
    /// the bin that it lies in are left out.
    pub fn at_most(&self, nanoseconds: u64) -> u64 {
        let below = self.bins.iter().take_while(|(bin, _)| upper_edge(*bin) <= nanoseconds);
        below.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The quantile, from 0 to 1, in nanoseconds; none where nothing was counted. Off by at most half a bin: 6 percent.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let rank = (quantile.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0);
        let mut reached = 0.0;
        for (bin, count) in &self.bins {
            reached += *count as f64;
            if reached >= rank {
                let upper = upper_edge(*bin).min(self.longest_ns);
                let lower = bin.checked_sub(1).map_or(0, upper_edge).min(upper);
                return Some(lower + (upper - lower) / 2);
            }
        }
        None
    }
}

/// The bounds of the buckets that OpenTelemetry's conventions give for the durations of messaging's metrics (1.44), in
/// nanoseconds.
pub const BUCKETS_NS: [u64; 14] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// The bin of a duration; an edge belongs to the bin below it, as with Prometheus' `le`.
fn bin_of(nanoseconds: u64) -> u16 {
    if nanoseconds <= SHORTEST_NS {
        return 0;
    }
    let value = nanoseconds - 1;
    let decade = (value / SHORTEST_NS).ilog10() as u16;
    if decade >= DECADES {
        return LAST;
    }
    // Twentieths of the decade's begin: 20 to 199.
    let twentieths = (value / (SHORTEST_NS * 10_u64.pow(decade.into()) / 20)) as u16;
    let within = match twentieths {
        ..40 => (twentieths - 20) / 2,
        40..100 => 10 + (twentieths - 40) / 5,
        100.. => 22 + (twentieths - 100) / 10,
    };
    1 + decade * BINS_PER_DECADE + within
}

/// The longest duration that a bin holds, in nanoseconds.
fn upper_edge(bin: u16) -> u64 {
    let Some(place) = bin.checked_sub(1) else { return SHORTEST_NS };
    if bin >= LAST {
        return u64::MAX;
    }
    let twentieth = SHORTEST_NS * 10_u64.pow((place / BINS_PER_DECADE).into()) / 20;
    let twentieths = match place % BINS_PER_DECADE {
        within @ ..10 => 20 + 2 * (within + 1),
        within @ 10..22 => 40 + 5 * (within - 9),
        within => 100 + 10 * (within - 21),
    };
    twentieth * u64::from(twentieths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bin_ends_where_the_next_begins() {
        for bin in 0..LAST {
            let edge = upper_edge(bin);
            assert_eq!((bin_of(edge), bin_of(edge + 1)), (bin, bin + 1), "at {edge} ns");
            let width = (upper_edge(bin + 1) - edge) as f64 / edge as f64;
            assert!(bin + 1 == LAST || width < 0.126, "{width} at {edge} ns");
        }
        assert_eq!((bin_of(0), bin_of(u64::MAX)), (0, LAST));
        assert_eq!(upper_edge(LAST - 1), 1_000_000_000_000);
    }

    #[test]
    fn the_buckets_of_the_conventions_are_exact() {
        let mut durations = Durations::default();
        for bound in BUCKETS_NS {
            durations.add(bound);
            durations.add(bound + 1);
        }
        for (place, bound) in BUCKETS_NS.into_iter().enumerate() {
            assert_eq!(durations.at_most(bound), 2 * place as u64 + 1, "{bound}");
        }
        assert_eq!(durations.at_most(u64::MAX), durations.count());
    }

    #[test]
    fn quantiles_are_near() {
        let mut durations = Durations::default();
        for milliseconds in 1..=1_000_u64 {
            durations.add(milliseconds * 1_000_000);
        }
        for (quantile, expected) in [(0.0, 1e6), (0.5, 5e8), (0.99, 9.9e8), (1.0, 1e9)] {
            let found = durations.quantile(quantile).expect("there are some") as f64;
            assert!((found / expected - 1.0).abs() < 0.065, "{quantile}: {found}");
        }
        assert_eq!(Durations::default().quantile(0.5), None);
        let mut one = Durations::default();
        one.add(u64::MAX);
        assert!(one.quantile(0.5).is_some_and(|found| found > 1_000_000_000_000));
    }

    #[test]
    fn what_is_added_up_is_as_if_counted_together() {
        let (mut a, mut b, mut both) = (Durations::default(), Durations::default(), Durations::default());
        for number in 0..500_u64 {
            let took = number * number * 7_919;
            if number % 3 == 0 {
                a.add(took)
            } else {
                b.add(took)
            }
            both.add(took);
        }
        a.merge(&b);
        assert_eq!(a, both);
        assert_eq!((a.count(), a.longest_ns()), (500, 499 * 499 * 7_919));
    }
}
