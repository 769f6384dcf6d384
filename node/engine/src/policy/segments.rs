//! The lists of TinyLfu and the movement of slots between them. New slots enter a window, which is
//! least recently used (or first in, first out, if a use is enough to be admitted). The main part
//! is a clock (second chance). The current [`Rule`] defines the share of the window and the
//! admission into the main part. `trials.rs` selects the rule, and `sketch.rs` counts requests.
//!
//! The main part is a clock because a hit then needs only a mark and no move, and because it keeps
//! frequently used slots longer than recently used ones, which is also why S3-FIFO and SIEVE
//! outperform segmented LRU. A hit there writes one word.

use crate::policy::recent::Recent;
use crate::queue::{Arena, Queue};
use crate::slab::Slot;

/// Uses are counted up to this number, as in S3-FIFO.
const MAX_USES: u32 = 3;
/// Maximum number of slots moved at once when the window's share shrinks.
const STEP: usize = 16;

/// Layout of a slot's `mark`: bit 0 is set in the main part, the higher bits count its uses.
const MAIN: u32 = 1;
const USE: u32 = 2;

/// Which slots are admitted from the window into the main part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// Slots used again in the window, and keys requested again soon after their eviction
    /// (S3-FIFO).
    Remembered,
    /// Slots requested more often than the main part's victim, by more than this margin (TinyLFU;
    /// of equals, the new slot is evicted).
    Counted { margin: u8 },
}

/// How new slots are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rule {
    /// The window's percentage of the capacity.
    pub(crate) window_percent: u64,
    pub(crate) admission: Admission,
}

/// The lists and the capacity that they share.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) window: Queue,
    pub(crate) main: Queue,
    recent: Recent,
    rule: Rule,
    /// Bytes to which the last eviction reduced the lists. Less than the announced capacity, which
    /// also covers sketch, tables and absent entries: with a larger share than it can ever get, the
    /// main part would never be full, and new slots would always be admitted.
    room_bytes: u64,
}

impl Segments {
    pub(crate) fn new(rule: Rule) -> Segments {
        let (window, main) = (Queue::default(), Queue::default());
        let recent = Recent::default();
        Segments { window, main, recent, rule, room_bytes: 0 }
    }

    pub(crate) fn set_room(&mut self, bytes: u64) {
        self.room_bytes = bytes;
        // A key that returns later would not have been found with twice the capacity either.
        self.recent.set_span(bytes);
    }

    pub(crate) fn room_bytes(&self) -> u64 {
        self.room_bytes
    }

    /// The window's share of the capacity.
    fn window_bytes(&self) -> u64 {
        self.room_bytes / 100 * self.rule.window_percent
    }

    /// Changes the rule. The lists adjust with further inserts.
    pub(crate) fn set_rule(&mut self, rule: Rule) {
        self.rule = rule;
    }

    /// Grows the table of evicted keys for this many keys.
    pub(crate) fn ensure(&mut self, keys: usize) {
        self.recent.ensure(keys);
    }

    /// Shrinks the table of evicted keys to at most this many bytes.
    pub(crate) fn shrink_memory(&mut self, bytes: u64) {
        self.recent.shrink(bytes);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.window.bytes() + self.main.bytes()
    }

    pub(crate) fn overhead_bytes(&self) -> u64 {
        self.recent.overhead_bytes()
    }

    fn queue(&mut self, mark: u32) -> &mut Queue {
        if mark & MAIN == 0 { &mut self.window } else { &mut self.main }
    }

    /// Adds a slot to the list of `mark`, without uses.
    fn enter(&mut self, arena: &mut impl Arena, slot: Slot, mark: u32) {
        arena.set_mark(slot, mark);
        self.queue(mark).push_front(arena, slot);
    }

    /// Adds a new slot. With [`Admission::Remembered`], a recently evicted key enters the main part
    /// at once. With [`Admission::Counted`], the window's excess moves to the main part without a
    /// comparison while the main part is below its share.
    pub(crate) fn insert(&mut self, arena: &mut impl Arena, slot: Slot) {
        if self.rule.admission == Admission::Remembered {
            let known = self.recent.recalls(arena.hash(slot));
            self.enter(arena, slot, if known { MAIN } else { 0 });
            return;
        }
        self.enter(arena, slot, 0);
        for _ in 0..STEP {
            let moves = self.window.bytes() > self.window_bytes()
                && self.main.bytes() < self.room_bytes - self.window_bytes()
                && self.window.back() != Some(slot);
            if !moves {
                return;
            }
            let Some(oldest) = self.window.pop_back(arena) else { return };
            self.enter(arena, oldest, MAIN);
        }
    }

    pub(crate) fn hit(&mut self, arena: &mut impl Arena, slot: Slot) {
        let mark = arena.mark(slot);
        if mark < MAX_USES * USE {
            arena.set_mark(slot, mark + USE);
        }
        // With `Remembered`, a use is enough for admission, so the position does not matter.
        if mark & MAIN == 0 && self.rule.admission != Admission::Remembered {
            self.window.touch(arena, slot);
        }
    }

    pub(crate) fn reweigh(&mut self, arena: &impl Arena, slot: Slot, old: u32) {
        self.queue(arena.mark(slot)).reweigh(arena, slot, old);
    }

    pub(crate) fn remove(&mut self, arena: &mut impl Arena, slot: Slot) {
        self.queue(arena.mark(slot)).unlink(arena, slot);
    }

    /// Selects a victim. `counts` returns the recent number of requests for a slot's key.
    pub(crate) fn evict<A: Arena>(
        &mut self,
        arena: &mut A,
        counts: impl Fn(&A, Slot) -> u8,
    ) -> Option<Slot> {
        let gives = self.window.bytes() > self.window_bytes();
        let victim = gives.then(|| self.evict_window(arena, &counts)).flatten();
        let victim = victim
            .or_else(|| self.evict_main(arena))
            .or_else(|| self.evict_window(arena, &counts))
            .or_else(|| self.evict_main(arena))?;
        self.recent.remember(arena.hash(victim), arena.weight(victim));
        self.room_bytes = self.bytes();
        Some(victim)
    }

    /// Removes the window's oldest slot, or the slot that it replaces in the main part. `None` if
    /// the window is empty, possibly because all its slots were admitted.
    fn evict_window<A: Arena>(
        &mut self,
        arena: &mut A,
        counts: &impl Fn(&A, Slot) -> u8,
    ) -> Option<Slot> {
        while let Some(oldest) = self.window.pop_back(arena) {
            match self.rule.admission {
                Admission::Remembered if arena.mark(oldest) < USE => return Some(oldest),
                Admission::Remembered => self.enter(arena, oldest, MAIN),
                Admission::Counted { margin } => {
                    let Some(victim) = self.evict_main(arena) else { return Some(oldest) };
                    if counts(arena, oldest) > counts(arena, victim).saturating_add(margin) {
                        self.enter(arena, oldest, MAIN);
                        return Some(victim);
                    }
                    self.main.push_back(arena, victim);
                    return Some(oldest);
                }
            }
        }
        None
    }

    /// Removes the oldest unused slot of the main part. Terminates because each pass decrements the
    /// uses.
    fn evict_main(&mut self, arena: &mut impl Arena) -> Option<Slot> {
        while let Some(slot) = self.main.pop_back(arena) {
            let mark = arena.mark(slot);
            if mark < USE {
                return Some(slot);
            }
            arena.set_mark(slot, mark - USE);
            self.main.push_front(arena, slot);
        }
        None
    }
}

/// Recent uses of a slot with this mark.
pub(crate) fn uses(mark: u32) -> u32 {
    mark / USE
}
