//! Letting a new endpoint warm up.

use std::time::Duration;

/// For so long after it joined or recovered an endpoint gets less than its
/// share, rising evenly (Envoy's slow start with aggression 1). Round robin and
/// least request heed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// Length of the warm-up.
    pub window: Duration,
    /// Least share of the weight, in percent. Envoy's default is 10.
    pub min_percent: u8,
}

impl SlowStart {
    /// Share of the weight after `age`, 0 to 1.
    pub(super) fn factor(self, age: Duration) -> f32 {
        if age >= self.window {
            return 1.0;
        }
        let least = f32::from(self.min_percent) / 100.0;
        (age.as_secs_f32() / self.window.as_secs_f32()).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_rises_from_its_minimum() {
        let slow_start = SlowStart {
            window: Duration::from_secs(10),
            min_percent: 10,
        };
        for (age, percent) in [
            (0, 10.0),
            (1, 10.0),
            (5, 50.0),
            (9, 90.0),
            (10, 100.0),
            (99, 100.0),
        ] {
            let factor = slow_start.factor(Duration::from_secs(age));
            assert!((factor * 100.0 - percent).abs() < 0.01, "{age} s: {factor}");
        }
    }
}
