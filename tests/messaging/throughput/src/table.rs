//! Medians of what was measured, and of ratios within rounds.

use std::fmt;

use crate::consumer::Report;
use crate::variant::Variant;

/// All rounds, each with a report per variant in the order of [`Variant::ALL`].
#[derive(Debug, Default)]
pub(crate) struct Table {
    rounds: Vec<Vec<Report>>,
}

impl Table {
    pub(crate) fn add(&mut self, round: &[(Variant, Report)]) {
        let of = |wanted| round.iter().find(|(variant, _)| *variant == wanted).map(|(_, report)| *report);
        self.rounds.push(Variant::ALL.into_iter().filter_map(of).collect());
    }

    fn median(&self, value: impl Fn(&[Report]) -> f64) -> f64 {
        let mut values: Vec<_> = self.rounds.iter().map(|round| value(round)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:10} {:>10} {:>13} {:>14} {:>15}",
            "", "messages/s", "of bare's", "of spans'", "µs of CPU each"
        )?;
        for (row, variant) in Variant::ALL.into_iter().enumerate() {
            let ratio = |to: usize| self.median(|round| round[row].per_second() / round[to].per_second());
            writeln!(
                out,
                "{:10} {:10.0} {:11.1} % {:12.1} % {:15.1}",
                variant.name(),
                self.median(|round| round[row].per_second()),
                ratio(0) * 100.0,
                ratio(1) * 100.0,
                self.median(|round| round[row].cpu_microseconds_each()),
            )?;
        }
        Ok(())
    }
}
