//! Medians and how sure they are, without an assumption on how values are spread.

/// The median of some values, and an interval that holds the true one in at least 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The median.
    pub value: f64,
    /// The interval's ends. Infinite where the values are too few for any.
    pub from: f64,
    /// As `from`.
    pub until: f64,
}

/// The median of `values`, with its interval by order statistics: how many of them lie below the true median is a matter
/// of tossing coins, whatever they are.
///
/// # Panics
/// Without values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Median {
    let mut values: Vec<f64> = values.into_iter().collect();
    assert!(!values.is_empty(), "no values");
    values.sort_by(f64::total_cmp);
    let count = values.len();
    let value = (values[(count - 1) / 2] + values[count / 2]) / 2.0;
    match rank(count) {
        None => Median { value, from: f64::NEG_INFINITY, until: f64::INFINITY },
        Some(rank) => Median { value, from: values[rank], until: values[count - 1 - rank] },
    }
}

/// How many values may be left out at either end so that the rest still spans the median in 95 of 100 cases.
fn rank(count: usize) -> Option<usize> {
    let mut probability = 0.5f64.powi(count as i32);
    let mut below = 0.0;
    let mut rank = None;
    for left_out in 0..count / 2 {
        below += probability;
        if below > 0.025 {
            break;
        }
        rank = Some(left_out);
        probability *= (count - left_out) as f64 / (left_out + 1) as f64;
    }
    rank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_its_interval_by_the_table_of_the_sign_test() {
        // Known from tables: of 6 values the whole span, of 10 the 2nd to the 9th, of 50 the 18th to the 33rd.
        for (count, first) in [(6, 1), (10, 2), (50, 18)] {
            let median = median((1..=count).map(f64::from));
            assert_eq!(median.value, f64::from(count + 1) / 2.0);
            assert_eq!(
                (median.from, median.until),
                (f64::from(first), f64::from(count + 1 - first)),
                "{count}"
            );
        }
        assert_eq!(
            median([1.0, 2.0, 9.0]),
            Median { value: 2.0, from: f64::NEG_INFINITY, until: f64::INFINITY }
        );
    }
}
