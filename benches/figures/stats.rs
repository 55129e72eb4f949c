//! Numbers of several runs.

/// Values in milliseconds, sorted.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<f64>);

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Sample(values)
    }
}

impl Sample {
    /// How many values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Not a number where there is no value.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value that this share of all does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let at = (share * last as f64).round() as usize;
        self.0.get(at.min(last)).copied().unwrap_or(f64::NAN)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }
}
