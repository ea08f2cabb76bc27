//! The addition table modulo M and its division into trained and held-out pairs.

use crate::random::SplitMix64;

/// One entry of the table: the question (a, b), whose answer is a + b mod M.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// First summand, below M.
    pub a: usize,
    /// Second summand, below M.
    pub b: usize,
}

impl Pair {
    /// a + b mod `modulus`.
    pub fn sum(self, modulus: usize) -> usize {
        (self.a + self.b) % modulus
    }
}

/// All M² pairs, each either trained on or held out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdditionTable {
    train: Vec<Pair>,
    test: Vec<Pair>,
}

impl AdditionTable {
    /// Draws `train_pairs` of the M² pairs without replacement. Both parts are sorted: the order of a full batch does not
    /// matter for learning, and neighbours that share `a` share cached weights.
    pub(crate) fn draw(modulus: usize, train_pairs: usize, random: &mut SplitMix64) -> Self {
        let mut pairs: Vec<Pair> = (0..modulus * modulus).map(|i| Pair { a: i / modulus, b: i % modulus }).collect();
        for i in 0..train_pairs {
            let chosen = i + random.below(pairs.len() - i);
            pairs.swap(i, chosen);
        }
        let mut test = pairs.split_off(train_pairs);
        pairs.sort_unstable();
        test.sort_unstable();
        Self { train: pairs, test }
    }

    /// The pairs trained on, sorted.
    pub fn train(&self) -> &[Pair] {
        &self.train
    }

    /// The pairs held out, sorted.
    pub fn test(&self) -> &[Pair] {
        &self.test
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_pair_is_on_exactly_one_side() {
        let table = AdditionTable::draw(71, 2016, &mut SplitMix64::new(5));
        assert_eq!((table.train().len(), table.test().len()), (2016, 3025));
        let all: HashSet<Pair> = table.train().iter().chain(table.test()).copied().collect();
        assert_eq!(all.len(), 71 * 71);
        assert!(all.iter().all(|pair| pair.a < 71 && pair.b < 71));
    }

    #[test]
    fn seeds_differ_in_what_they_hold_out() {
        let draw = |seed| AdditionTable::draw(71, 2016, &mut SplitMix64::new(seed));
        assert_eq!(draw(1), draw(1));
        let first: HashSet<Pair> = draw(1).train().iter().copied().collect();
        let second = draw(2);
        let shared = second.train().iter().filter(|pair| first.contains(pair)).count() as f64;
        // Independent choices share 2016² / 5041 = 806 pairs, give or take 17.
        assert!((shared - 806.0).abs() < 100.0, "{shared}");
    }
}
