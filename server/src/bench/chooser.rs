//! Which key is next.

use super::sizes::mixed;

/// Numbers that look random and are the same in every run.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Another sequence for another seed.
    pub fn new(seed: u64) -> Self {
        Self { state: mixed(seed) }
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        self.state = self.state.wrapping_add(1);
        // 53 bits are what an f64 holds exactly.
        (mixed(self.state) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Chooses among keys `0..count`: the first most often, by Zipf's law, or all alike.
///
/// Rejection from the integral of the law, as W. Hörmann and G. Derflinger gave it ("Rejection-inversion to generate variates from
/// monotone discrete distributions", 1996): no table, whatever the number of keys.
#[derive(Clone, Debug)]
pub struct Chooser {
    count: u64,
    exponent: f64,
    from: f64,
    to: f64,
    near: f64,
}

impl Chooser {
    /// `exponent` 0 is all alike.
    pub fn new(count: u64, exponent: f64) -> Self {
        let mut chooser = Self {
            count,
            exponent,
            from: 0.0,
            to: 0.0,
            near: 0.0,
        };
        chooser.from = chooser.integral(1.5) - 1.0;
        chooser.to = chooser.integral(count as f64 + 0.5);
        chooser.near = 2.0 - chooser.inverse(chooser.integral(2.5) - chooser.weight(2.0));
        chooser
    }

    /// The next key.
    pub fn next(&self, random: &mut Random) -> u64 {
        if self.exponent == 0.0 {
            return self.within(random.unit() * self.count as f64);
        }
        loop {
            let u = self.to + random.unit() * (self.from - self.to);
            let x = self.inverse(u);
            let rank = x.round().clamp(1.0, self.count as f64);
            if rank - x <= self.near || u >= self.integral(rank + 0.5) - self.weight(rank) {
                return self.within(rank - 1.0);
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to below the count, which is far below 2⁵³"
    )]
    fn within(&self, key: f64) -> u64 {
        (key as u64).min(self.count - 1)
    }

    fn weight(&self, rank: f64) -> f64 {
        rank.powf(-self.exponent)
    }

    /// Of the law, from 1.
    fn integral(&self, x: f64) -> f64 {
        let left = 1.0 - self.exponent;
        if left.abs() < 1e-9 {
            return x.ln();
        }
        (x.powf(left) - 1.0) / left
    }

    fn inverse(&self, area: f64) -> f64 {
        let left = 1.0 - self.exponent;
        if left.abs() < 1e-9 {
            return area.exp();
        }
        (1.0 + area * left).max(0.0).powf(1.0 / left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_law() {
        const DRAWS: u32 = 200_000;
        for exponent in [0.0, 0.5, 0.99, 1.0, 1.5] {
            for count in [1, 2, 10, 1000] {
                let chooser = Chooser::new(count, exponent);
                let mut random = Random::new(7);
                let mut seen = vec![0_u32; usize::try_from(count).unwrap()];
                for _ in 0..DRAWS {
                    seen[usize::try_from(chooser.next(&mut random)).unwrap()] += 1;
                }
                let all: f64 = (1..=count).map(|rank| (rank as f64).powf(-exponent)).sum();
                for (rank, seen) in (1_u32..).zip(&seen).take(5) {
                    let expected = f64::from(rank).powf(-exponent) / all * f64::from(DRAWS);
                    let off = (f64::from(*seen) - expected).abs();
                    assert!(
                        off <= 5.0 * expected.sqrt() + 1.0,
                        "{exponent} {count} {rank}: {seen} for {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_seed_repeats() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            [(); 4].map(|()| random.unit().to_bits())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
