//! The job's own random numbers, so that a seed means the same run whatever version of whatever library is linked.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator of its own for one purpose, so that drawing more for one purpose never changes another.
    pub(crate) fn split(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [−bound, bound) on a grid of 2²⁴ points, all of which float32 holds exactly for bound 1.
    pub(crate) fn symmetric(&mut self, bound: f32) -> f32 {
        let unit = (self.next_u64() >> 40) as f32 / (1u32 << 24) as f32;
        (2.0 * unit - 1.0) * bound
    }

    /// Uniform in 0..n. The bias of the multiplication method is below n/2⁶⁴.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_reference() {
        // First outputs of Vigna's splitmix64.c for state 1234567.
        let mut random = SplitMix64::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn symmetric_fills_its_interval_and_stays_inside() {
        let mut random = SplitMix64::new(3);
        let drawn: Vec<f32> = (0..20_000).map(|_| random.symmetric(0.5)).collect();
        assert!(drawn.iter().all(|x| (-0.5..0.5).contains(x)));
        let variance = drawn.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!((variance * 12.0 - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn below_reaches_every_value_equally_often() {
        let mut random = SplitMix64::new(4);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[random.below(7)] += 1;
        }
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 500), "{counts:?}");
    }
}
