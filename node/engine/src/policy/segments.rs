//! Owns the lists of TinyLfu and how slots move between them: a window for newcomers, least
//! recently used (first in, first out where to be used is enough to pass), and a main part that is
//! a clock. Which share the window has, and who may pass from it into the main part, is the
//! [`Rule`] in force; it does not choose that (`trials.rs` does) and counts nothing (`sketch.rs`
//! does).
//!
//! The main part is a clock because what is used there needs only a mark and not a new place, and
//! because it is harder to leave for what was used often than for what was used last (S3-FIFO and
//! SIEVE owe their lead over segmented LRU to that). A hit there writes one word.

use crate::policy::recent::Recent;
use crate::queue::{Arena, Queue};
use crate::slab::Slot;

/// Uses are counted up to this, as in S3-FIFO.
const MAX_USES: u32 = 3;
/// Slots moved at once when the window's share shrinks.
const STEP: usize = 16;

/// A slot's `mark`: in the main part or not, then its uses.
const MAIN: u32 = 1;
const USE: u32 = 2;

/// Who passes from the window into the main part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// What was used again in the window, or asked for again soon after it had left (S3-FIFO).
    Remembered,
    /// What was asked for more often than what would leave the main part, by more than this
    /// margin (TinyLFU; of equals the newcomer goes).
    Counted { margin: u8 },
}

/// How newcomers are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rule {
    /// The window's share of the room.
    pub(crate) window_percent: u64,
    pub(crate) admission: Admission,
}

/// The lists, and the room that they divide.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) window: Queue,
    pub(crate) main: Queue,
    recent: Recent,
    rule: Rule,
    /// What the lists were last held to. Less than the capacity that was announced, which also
    /// pays for counts, memories and absent entries: a main part that were due more than it can
    /// ever get would never be full, and newcomers would never have to contend.
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
        // A key that comes back later would not have been found with twice the room either.
        self.recent.set_span(bytes);
    }

    pub(crate) fn room_bytes(&self) -> u64 {
        self.room_bytes
    }

    /// The window's part of the room.
    fn window_bytes(&self) -> u64 {
        self.room_bytes / 100 * self.rule.window_percent
    }

    /// Goes on under another rule; the lists adjust as entries come.
    pub(crate) fn set_rule(&mut self, rule: Rule) {
        self.rule = rule;
    }

    /// Makes its memory large enough for so many keys.
    pub(crate) fn ensure(&mut self, keys: usize) {
        self.recent.ensure(keys);
    }

    /// Makes its memory take at most so many bytes.
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

    /// Enters a list with no uses counted.
    fn enter(&mut self, arena: &mut impl Arena, slot: Slot, mark: u32) {
        arena.set_mark(slot, mark);
        self.queue(mark).push_front(arena, slot);
    }

    /// A newcomer. One that is remembered enters the main part at once. Where newcomers have to
    /// contend, what the window has too much fills the main part without a contest as long as
    /// that has room of its own.
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
        // What is remembered passes on once it was used, wherever it stands.
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

    /// Chooses a victim; `counts` tells how often a slot's key was asked for lately.
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

    /// The window's oldest, or what it replaces in the main part. `None` if the window is empty,
    /// perhaps because all of it moved on.
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

    /// The main part's oldest that was not used; ends because every round takes a use away.
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

/// How often a slot with this mark was used lately.
pub(crate) fn uses(mark: u32) -> u32 {
    mark / USE
}
