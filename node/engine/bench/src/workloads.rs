//! Request streams: recorded ones from files, and generated ones that are identical in every run.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

const LOOP: &str = "loop";

/// A named stream of keys.
pub(crate) struct Workload {
    /// Heading of its table.
    pub(crate) name: String,
    /// The key of each request.
    pub(crate) keys: Vec<u32>,
}

impl Workload {
    /// Number of distinct keys.
    pub(crate) fn distinct(&self) -> usize {
        self.keys.iter().collect::<HashSet<_>>().len()
    }

    /// Additional sizes for this stream, in percent of its keys: in a small cache, a loop has no
    /// hits under any policy.
    pub(crate) fn further_sizes(&self) -> &'static [f64] {
        if self.name == LOOP { &[50.0, 90.0] } else { &[] }
    }
}

/// Reads all traces in a folder: `NAME.trace` or `NAME.trace.xz`.
pub(crate) fn traces(folder: &Path) -> anyhow::Result<Vec<Workload>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((name, kind)) = file.split_once(".trace") else { continue };
        let raw = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let bytes = if kind == ".xz" {
            let mut plain = Vec::new();
            lzma_rs::xz_decompress(&mut raw.as_slice(), &mut plain)
                .with_context(|| format!("unpack {}", path.display()))?;
            plain
        } else {
            raw
        };
        ensure!(bytes.len() % 4 == 0, "{} does not consist of 32-bit keys", path.display());
        let keys = bytes.chunks_exact(4).map(|key| u32::from_be_bytes(key.try_into().expect("4")));
        found.push(Workload { name: name.to_owned(), keys: keys.collect() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Generates streams of `requests` requests for a tenth as many keys: Zipf, Zipf with scans, a
/// loop, and shifting popularity.
pub(crate) fn generated(requests: u32) -> Vec<Workload> {
    let mut random = Random::new(0x5EED);
    let count = (requests / 10).max(1);
    let mut all = Vec::new();
    for skew in [0.7, 0.99, 1.2] {
        let zipf = Zipf::new(count, skew);
        let keys = (0..requests).map(|_| zipf.draw(&mut random)).collect();
        all.push(Workload { name: format!("zipf-{skew}"), keys });
    }
    let zipf = Zipf::new(count, 0.99);
    let mut scanned = 0;
    let keys = (0..requests).map(|_| {
        if random.unit() < 0.7 {
            return zipf.draw(&mut random);
        }
        scanned = (scanned + 1) % (count / 5).max(1);
        count + scanned
    });
    all.push(Workload { name: "scan-mix".into(), keys: keys.collect() });
    let keys = (0..requests).map(|at| at % (count / 5).max(1)).collect();
    all.push(Workload { name: LOOP.into(), keys });
    // After each twentieth of the requests, the ranks shift by a tenth of the keys.
    let (every, by) = ((requests / 20).max(1), count / 10);
    let keys = (0..requests).map(|at| (zipf.draw(&mut random) + at / every * by) % count);
    all.push(Workload { name: "shifting".into(), keys: keys.collect() });
    all
}

/// Draws ranks with a probability proportional to 1 / rank^skew.
pub(crate) struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    /// A distribution over `count` ranks.
    pub(crate) fn new(count: u32, skew: f64) -> Zipf {
        let mut sum = 0.0;
        let cumulated = (1..=count).map(|rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        });
        Zipf { cumulated: cumulated.collect() }
    }

    /// Draws a rank, starting from 0.
    pub(crate) fn draw(&self, random: &mut Random) -> u32 {
        let total = self.cumulated.last().expect("at least one rank");
        let at = random.unit() * total;
        self.cumulated.partition_point(|&sum| sum < at) as u32
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    /// Equal seeds give equal numbers.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Draws any 64-bit number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// Draws a number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
