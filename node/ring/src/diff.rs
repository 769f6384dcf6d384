//! Owns the answer to "what moves if the members become these": exact where both rings place keys
//! alike, by sampling where the algorithm itself changes. It never moves anything.

use std::collections::BTreeMap;

use crate::{Ring, Table};

/// Keys tried where two rings have no common measure; the error is below 0.5 % of all keys.
const SAMPLES: u64 = 1 << 17;

/// Part of all keys that changes hands from one member to another.
#[derive(Clone, PartialEq, Debug)]
pub struct Move {
    /// Who owned them; `None` if nobody did.
    pub from: Option<String>,
    /// Who owns them then; `None` if nobody does.
    pub to: Option<String>,
    /// Part of all keys, 0 to 1.
    pub share: f64,
}

/// What moves between two rings.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Diff {
    /// Part of all keys that changes its owner, 0 to 1.
    pub share: f64,
    /// The pairs, the greatest part first.
    pub moves: Vec<Move>,
}

/// What moves when `before` becomes `after`.
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
            let places = a.hash().places() as f64;
            let (mut old, mut new) = (a.arcs().peekable(), b.arcs().peekable());
            let mut done: u128 = 0;
            while let (Some(&(old_end, from)), Some(&(new_end, to))) = (old.peek(), new.peek()) {
                let end = old_end.min(new_end);
                let next = u128::from(end) + 1;
                tally.add(Some(from), Some(to), (next - done) as f64 / places);
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

/// Adds up parts by pair of member indices; names only at the end.
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
        // Adding from the smallest keeps the sum exact where it can be; no part gives exactly 0.
        Diff { share: moves.iter().rev().map(|part| part.share).sum::<f64>() + 0.0, moves }
    }
}
