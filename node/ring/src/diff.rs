//! Which keys move between two rings. Exact if both rings use the same algorithm and hash; sampled
//! if they differ.

use std::collections::BTreeMap;

use crate::ring::{Ring, Table};

/// Keys sampled if two rings cannot be compared exactly. The error is below 0.5 % of all keys.
const SAMPLES: u64 = 1 << 17;

/// The keys that move from one member to another.
#[derive(Clone, PartialEq, Debug)]
pub struct Move {
    /// Old owner; `None` if the keys had none.
    pub from: Option<String>,
    /// New owner; `None` if the keys have none.
    pub to: Option<String>,
    /// Share of all keys, 0 to 1.
    pub share: f64,
}

/// The keys that move between two rings.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Diff {
    /// Share of all keys that change their owner, 0 to 1.
    pub share: f64,
    /// One entry per pair of members, largest share first.
    pub moves: Vec<Move>,
}

/// Compares the owners of all keys in `before` and `after`.
#[must_use]
pub fn diff(before: &Ring, after: &Ring) -> Diff {
    let mut tally = Tally { before, after, parts: BTreeMap::new() };
    match (&before.table, &after.table) {
        (Table::Slots(a), Table::Slots(b)) if a.owners().len() == b.owners().len() => {
            let part = 1.0 / a.owners().len() as f64;
            for (&from, &to) in a.owners().iter().zip(b.owners()) {
                tally.add(Some(usize::from(from)), Some(usize::from(to)), part);
            }
        }
        (Table::Tokens(a), Table::Tokens(b)) if a.hash() == b.hash() => {
            let positions = a.hash().positions() as f64;
            let (mut old, mut new) = (a.arcs().peekable(), b.arcs().peekable());
            let mut done: u128 = 0;
            while let (Some(&(old_end, from)), Some(&(new_end, to))) = (old.peek(), new.peek()) {
                let end = old_end.min(new_end);
                let next = u128::from(end) + 1;
                tally.add(Some(from), Some(to), (next - done) as f64 / positions);
                done = next;
                old.next_if(|arc| arc.0 == end);
                new.next_if(|arc| arc.0 == end);
            }
        }
        (Table::Empty, Table::Empty) => {}
        _ => {
            for sample in 0..SAMPLES {
                let key = sample.to_be_bytes();
                let part = 1.0 / SAMPLES as f64;
                tally.add(before.owner_index("", &key), after.owner_index("", &key), part);
            }
        }
    }
    tally.finish()
}

/// Sums shares by pair of member indices; resolves names only at the end.
struct Tally<'a> {
    before: &'a Ring,
    after: &'a Ring,
    parts: BTreeMap<(Option<usize>, Option<usize>), f64>,
}

impl Tally<'_> {
    fn add(&mut self, from: Option<usize>, to: Option<usize>, part: f64) {
        *self.parts.entry((from, to)).or_default() += part;
    }

    fn finish(self) -> Diff {
        let name = |ring: &Ring, index: Option<usize>| {
            index.map(|index| ring.members()[index].name.clone())
        };
        let named = self.parts.iter().map(|(&(from, to), &share)| Move {
            from: name(self.before, from),
            to: name(self.after, to),
            share,
        });
        let mut moves: Vec<Move> = named.filter(|part| part.from != part.to).collect();
        moves.sort_by(|a, b| b.share.total_cmp(&a.share));
        // Adding the smallest first loses the least precision. `+ 0.0` turns the -0.0 of an empty
        // sum into 0.0.
        Diff { share: moves.iter().rev().map(|part| part.share).sum::<f64>() + 0.0, moves }
    }
}
