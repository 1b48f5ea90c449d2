//! Percentiles and medians.

/// The two percentiles of one measurement that are looked at, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Percentiles {
    /// Of the times of all calls, in any order; there is at least one.
    pub(crate) fn of(mut times: Vec<u64>) -> Percentiles {
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize] as f64;
        Percentiles { p50: at(0.50), p99: at(0.99) }
    }
}

/// One figure over all repetitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Of at least one value.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Summary {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
        Summary { median, min: values[0], max: values[values.len() - 1] }
    }
}
