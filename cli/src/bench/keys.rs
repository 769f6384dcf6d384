//! The keys of a load: a pattern that makes them from numbers, and how often each is drawn.

use std::str::FromStr;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Zipf};

/// Text around a number: `student-{}`, or `student-{:04}` with leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPattern {
    before: String,
    after: String,
    /// Digits of the number at least.
    digits: usize,
}

impl FromStr for KeyPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "must hold one {} for the number, or {:04} for a number of four digits";
        let (before, rest) = text.split_once('{').ok_or(form)?;
        let (number, after) = rest.split_once('}').ok_or(form)?;
        if before.contains('}') || after.contains(['{', '}']) {
            return Err(form);
        }
        let digits = match number.strip_prefix(":0") {
            Some(digits) => digits.parse().ok().filter(|d| (1..=100).contains(d)).ok_or(form)?,
            None if number.is_empty() => 0,
            None => return Err(form),
        };
        Ok(Self { before: before.into(), after: after.into(), digits })
    }
}

impl KeyPattern {
    /// The same with leading zeros that make every key up to number `last` have `bytes` bytes.
    ///
    /// # Errors
    /// The text and the digits of `last` take more.
    pub(super) fn with_bytes(mut self, bytes: usize, last: u64) -> Result<Self, String> {
        let text = self.before.len() + self.after.len();
        let least = text + last.to_string().len();
        if bytes < least {
            return Err(format!("--key-bytes {bytes}: keys up to number {last} take {least}"));
        }
        self.digits = bytes - text;
        Ok(self)
    }

    pub(super) fn key(&self, number: u64) -> Bytes {
        let Self { before, after, digits } = self;
        format!("{before}{number:0digits$}{after}").into()
    }
}

/// Draws keys numbered from 1: number 1 most often, as Zipf's law has it.
pub(super) struct Keys {
    pattern: KeyPattern,
    zipf: Zipf<f64>,
    random: SmallRng,
}

impl Keys {
    /// `exponent` 0 draws all `count` keys alike.
    ///
    /// # Errors
    /// Not a distribution.
    pub(super) fn new(
        pattern: KeyPattern,
        count: u64,
        exponent: f64,
        seed: u64,
    ) -> Result<Self, String> {
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53 keys")]
        let zipf = Zipf::new(count as f64, exponent).map_err(|error| error.to_string())?;
        Ok(Self { pattern, zipf, random: SmallRng::seed_from_u64(seed) })
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 1 to the number of keys"
    )]
    pub(super) fn draw(&mut self) -> Bytes {
        self.pattern.key(self.zipf.sample(&mut self.random) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pattern: &str, number: u64) -> Bytes {
        pattern.parse::<KeyPattern>().expect("valid").key(number)
    }

    #[test]
    fn a_pattern_makes_keys_from_numbers() {
        assert_eq!(key("student-{:04}", 7), "student-0007");
        assert_eq!(key("{}", 12_345), "12345");
        assert_eq!(key("a{:02}b", 123), "a123b");
        for wrong in ["student", "{}{}", "{4}", "{:4}", "{", "}{", "{:0}", "{:0999}"] {
            assert!(wrong.parse::<KeyPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_get_the_size_that_is_asked_for() {
        let pattern = || "k-{}".parse::<KeyPattern>().expect("valid");
        let sized = pattern().with_bytes(10, 1_000).expect("room");
        assert_eq!([sized.key(1), sized.key(1_000)], ["k-00000001", "k-00001000"]);
        let error = pattern().with_bytes(5, 1_000).expect_err("no room");
        assert_eq!(error, "--key-bytes 5: keys up to number 1000 take 6");
    }

    #[test]
    fn a_larger_exponent_draws_the_first_key_more_often() {
        let first = |exponent| {
            let pattern = "{}".parse().expect("valid");
            let mut keys = Keys::new(pattern, 100, exponent, 7).expect("a distribution");
            (0..10_000).filter(|_| keys.draw() == "1").count()
        };
        // Of 100 keys the first has 1/100, 1/H(100) = 19 % and 1/1.635 = 61 % of the draws.
        let [alike, zipf, steep] = [first(0.0), first(1.0), first(2.0)];
        assert!((50..150).contains(&alike), "{alike}");
        assert!((1_700..2_150).contains(&zipf), "{zipf}");
        assert!((5_800..6_400).contains(&steep), "{steep}");
    }
}
