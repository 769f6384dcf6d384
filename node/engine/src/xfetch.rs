//! Early reload: decides whether a read reloads an entry that is still fresh, so that its readers
//! do not all find it stale at the same moment. Pure: the caller passes the random number.

use crate::tick::Tick;

/// The XFetch rule (Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede
/// Prevention", VLDB 2015): reload with a probability that rises towards the end of freshness, and
/// rises earlier the longer a load takes.
///
/// `load_ms` is the recent duration of a load. `beta` scales how early reloads start: 1.0 is the
/// paper's optimum, 0 never reloads early. `random` is drawn uniformly from (0, 1].
#[must_use]
pub fn reload_early(now: Tick, fresh_until: Tick, load_ms: u64, beta: f64, random: f64) -> bool {
    let ahead_ms = load_ms as f64 * beta * -random.clamp(f64::MIN_POSITIVE, 1.0).ln();
    fresh_until != Tick::NEVER && fresh_until.millis_since(now) as f64 <= ahead_ms && beta > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Tick = Tick::from_millis(100_000);

    fn share(left_ms: u64, load_ms: u64, beta: f64) -> f64 {
        let now = Tick::from_millis(100_000 - left_ms);
        let draws = (1..=1_000).map(|draw| f64::from(draw) / 1_000.0);
        draws.filter(|&random| reload_early(now, END, load_ms, beta, random)).count() as f64 / 1e3
    }

    #[test]
    fn the_probability_is_that_of_the_paper() {
        // P(-ln r >= left / (load * beta)) = e^-(left / (load * beta)).
        for (left, load, beta) in [(0, 100, 1.0), (100, 100, 1.0), (300, 100, 1.0), (300, 100, 3.0)]
        {
            let expected = (-(left as f64) / (load as f64 * beta)).exp();
            let got = share(left, load, beta);
            assert!((got - expected).abs() < 0.002, "{left} {load} {beta}: {got} {expected}");
        }
    }

    #[test]
    fn nothing_is_reloaded_far_from_the_end_or_with_a_beta_of_zero() {
        assert_eq!(share(50_000, 100, 1.0), 0.0);
        assert_eq!(share(1, 100, 0.0), 0.0);
        assert!(!reload_early(END, Tick::NEVER, 100, 1.0, 0.5));
    }
}
