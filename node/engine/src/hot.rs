//! Estimates which keys are read most often, and their rates. Counts one read in [`SAMPLED`], so
//! its cost is negligible. Never influences eviction.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and Top-k
//! Elements in Data Streams", ICDT 2005): there is a fixed number of counters, and a key without
//! one takes over the smallest, whose count becomes its possible error. Counts decay by half every
//! [`HALF_LIFE_MS`].

use crate::tick::Tick;

/// One read in this many is counted.
pub(crate) const SAMPLED: u64 = 64;
/// Counters per shard.
const COUNTERS: usize = 32;
/// Half-life of a count: a rate covers about the last ten seconds.
const HALF_LIFE_MS: f64 = 10_000.0;

/// A frequently read key.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "`key` needs none")]
pub struct HotKey {
    pub key: Vec<u8>,
    /// Lower bound of the recent rate of reads.
    pub reads_per_second: f64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HotKeys {
    counters: Vec<Counter>,
    faded_at: Tick,
}

#[derive(Debug)]
struct Counter {
    hash: u32,
    key: Box<[u8]>,
    count: f64,
    /// Upper bound of the part of the count that belongs to previous keys.
    error: f64,
}

impl HotKeys {
    /// Records one sampled read.
    pub(crate) fn record(&mut self, hash: u32, key: &[u8], now: Tick) {
        self.fade(now);
        let same = |counter: &&mut Counter| counter.hash == hash && *counter.key == *key;
        if let Some(counter) = self.counters.iter_mut().find(same) {
            counter.count += SAMPLED as f64;
            return;
        }
        let fresh =
            |error: f64| Counter { hash, key: key.into(), count: error + SAMPLED as f64, error };
        if self.counters.len() < COUNTERS {
            self.counters.push(fresh(0.0));
            return;
        }
        let least = self.counters.iter_mut().min_by(|a, b| a.count.total_cmp(&b.count));
        let least = least.expect("there are counters");
        *least = fresh(least.count);
    }

    /// The counted keys with their rates at `now`, in no particular order.
    pub(crate) fn rates(&self, now: Tick) -> impl Iterator<Item = HotKey> {
        // At a steady rate r, a count with half-life T converges to r * T / ln 2.
        let per_second = self.faded(now) * std::f64::consts::LN_2 / (HALF_LIFE_MS / 1_000.0);
        self.counters.iter().map(move |counter| HotKey {
            key: counter.key.to_vec(),
            reads_per_second: (counter.count - counter.error) * per_second,
        })
    }

    /// Factor by which counts have decayed since they were last updated.
    fn faded(&self, now: Tick) -> f64 {
        (-(now.millis_since(self.faded_at) as f64) / HALF_LIFE_MS).exp2()
    }

    fn fade(&mut self, now: Tick) {
        // Updating more often than every hundredth of the half-life makes no difference.
        if now.millis_since(self.faded_at) < 100 {
            return;
        }
        let left = self.faded(now);
        for counter in &mut self.counters {
            counter.count *= left;
            counter.error *= left;
        }
        self.faded_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_hot_key_is_found_among_many_cold_keys() {
        let mut hot = HotKeys::default();
        // 2,000 sampled reads per second for a minute, a quarter of them of one key.
        for at in 0..120_000u32 {
            let now = Tick::from_millis(u64::from(at) / 2);
            let id = if at % 4 == 0 { 7 } else { 1_000 + at };
            hot.record(id, &id.to_be_bytes(), now);
        }
        let now = Tick::from_millis(60_000);
        let top = hot.rates(now).max_by(|a, b| a.reads_per_second.total_cmp(&b.reads_per_second));
        let top = top.expect("keys were counted");
        assert_eq!(top.key, 7u32.to_be_bytes());
        let expected = 500.0 * SAMPLED as f64;
        assert!((top.reads_per_second / expected - 1.0).abs() < 0.1, "{top:?}");
        let later: Vec<HotKey> = hot.rates(Tick::from_millis(160_000)).collect();
        assert!(later.iter().all(|key| key.reads_per_second < expected / 500.0));
        assert_eq!(later.len(), COUNTERS);
    }
}
