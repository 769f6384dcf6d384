//! Request streams: recorded ones from files, and generated ones that are the same in every run.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

/// A named stream of keys.
pub struct Workload {
    /// What the table is headed.
    pub name: String,
    /// One key a request.
    pub keys: Vec<u32>,
}

impl Workload {
    /// How many different keys there are.
    pub fn distinct(&self) -> usize {
        self.keys.iter().collect::<HashSet<_>>().len()
    }
}

/// Every trace in a folder: `NAME.trace` or `NAME.trace.xz`.
pub fn traces(folder: &Path) -> anyhow::Result<Vec<Workload>> {
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

/// Zipf, Zipf with scans, a loop, and popularity that shifts.
pub fn generated() -> Vec<Workload> {
    let mut random = Random(0x5EED);
    let mut all = Vec::new();
    for skew in [0.7, 0.99, 1.2] {
        let zipf = Zipf::new(200_000, skew);
        let keys = (0..2_000_000).map(|_| zipf.draw(&mut random)).collect();
        all.push(Workload { name: format!("zipf-{skew}"), keys });
    }
    let zipf = Zipf::new(200_000, 0.99);
    let mut scanned = 0;
    let keys = (0..2_000_000).map(|_| {
        if random.unit() < 0.7 {
            return zipf.draw(&mut random);
        }
        scanned = (scanned + 1) % 40_000;
        1_000_000 + scanned
    });
    all.push(Workload { name: "scan-mix".into(), keys: keys.collect() });
    let keys = (0..1_000_000).map(|at| at % 20_000).collect();
    all.push(Workload { name: "loop".into(), keys });
    // Every 100,000 requests the ranks are dealt anew to a tenth of the keys.
    let keys =
        (0..2_000_000u32).map(|at| (zipf.draw(&mut random) + at / 100_000 * 20_000) % 200_000);
    all.push(Workload { name: "shifting".into(), keys: keys.collect() });
    all
}

/// Draws ranks with a probability in proportion to 1 / rank^skew.
struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    fn new(count: u32, skew: f64) -> Zipf {
        let mut sum = 0.0;
        let cumulated = (1..=count).map(|rank| {
            sum += f64::from(rank).powf(-skew);
            sum
        });
        Zipf { cumulated: cumulated.collect() }
    }

    fn draw(&self, random: &mut Random) -> u32 {
        let total = self.cumulated.last().expect("at least one rank");
        let at = random.unit() * total;
        self.cumulated.partition_point(|&sum| sum < at) as u32
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
