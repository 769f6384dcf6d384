//! A bounded list of evicted keys with hash and weight, which drops the oldest first. Keys are
//! identified by 32 bits of their hash. A rare collision causes a wrong guess and nothing else.

use std::collections::VecDeque;

use hashbrown::HashTable;

/// Bytes of one ghost: 8 in the queue, and 4 and a control byte in the table at a load of two
/// thirds.
const GHOST_BYTES: u64 = 16;

/// See the module. Weights are those of the evicted entries, not of the ghosts.
#[derive(Debug, Default)]
pub(crate) struct Ghost {
    /// Hash and weight. A weight of 0 marks a removed ghost.
    queue: VecDeque<(u32, u32)>,
    /// Serial number of the queue's front; wraps around.
    first: u32,
    /// Serial numbers of the ghosts, by hash.
    index: HashTable<u32>,
    bytes: u64,
}

fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Ghost {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn overhead_bytes(&self) -> u64 {
        self.queue.len() as u64 * GHOST_BYTES
    }

    /// Adds an evicted key as the newest ghost.
    pub(crate) fn push(&mut self, hash: u32, weight: u32) {
        self.remove(hash);
        if self.queue.len() > 2 * self.index.len() + 64 {
            self.compact();
        }
        let length = u32::try_from(self.queue.len()).expect("fewer ghosts than slots");
        let serial = self.first.wrapping_add(length);
        self.queue.push_back((hash, weight));
        self.bytes += u64::from(weight);
        let (queue, first) = (&self.queue, self.first);
        let hasher = |&at: &u32| spread(queue[at.wrapping_sub(first) as usize].0);
        self.index.insert_unique(spread(hash), serial, hasher);
    }

    /// Removes a key and returns its weight, if it is in the list.
    pub(crate) fn remove(&mut self, hash: u32) -> Option<u32> {
        let (queue, first) = (&self.queue, self.first);
        let same = |&at: &u32| queue[at.wrapping_sub(first) as usize].0 == hash;
        let found = self.index.find_entry(spread(hash), same).ok()?;
        let (serial, _) = found.remove();
        let place = serial.wrapping_sub(self.first) as usize;
        let weight = std::mem::take(&mut self.queue[place].1);
        self.bytes -= u64::from(weight);
        Some(weight)
    }

    /// Drops the oldest ghosts until the weights sum to at most `max` bytes.
    pub(crate) fn trim(&mut self, max: u64) {
        while self.bytes > max || self.queue.front().is_some_and(|&(_, weight)| weight == 0) {
            let Some(&(hash, weight)) = self.queue.front() else { return };
            if weight > 0 {
                self.remove(hash);
            }
            self.queue.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// Removes the gaps that removals have left in the queue.
    fn compact(&mut self) {
        self.queue.retain(|&(_, weight)| weight > 0);
        self.index.clear();
        let queue = &self.queue;
        for (place, &(hash, _)) in queue.iter().enumerate() {
            let serial = u32::try_from(place).expect("fewer ghosts than slots");
            self.index.insert_unique(spread(hash), serial, |&at| spread(queue[at as usize].0));
        }
        self.first = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_plain_list(ops in prop::collection::vec((0..40u32, 0..3u8), 1..600)) {
            let mut ghost = Ghost::default();
            let mut list: VecDeque<(u32, u32)> = VecDeque::new();
            for (hash, op) in ops {
                let known = list.iter().position(|&(other, _)| other == hash);
                if op == 0 {
                    let expected = known.and_then(|at| list.remove(at)).map(|(_, weight)| weight);
                    prop_assert_eq!(ghost.remove(hash), expected);
                } else {
                    known.and_then(|at| list.remove(at));
                    list.push_back((hash, hash + 1));
                    ghost.push(hash, hash + 1);
                }
                while list.iter().map(|&(_, weight)| u64::from(weight)).sum::<u64>() > 200 {
                    list.pop_front();
                }
                ghost.trim(200);
                prop_assert_eq!(ghost.bytes(), list.iter().map(|g| u64::from(g.1)).sum::<u64>());
                prop_assert_eq!(ghost.index.len(), list.len());
                prop_assert!(ghost.queue.len() <= 2 * list.len() + 66);
            }
        }
    }
}
