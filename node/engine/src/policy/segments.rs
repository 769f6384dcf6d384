//! Owns the lists of W-TinyLFU and how slots move between them: a window for newcomers, and a main
//! part in two segments, of which `protected` holds what was used again. It does not choose the
//! window's size (`tinylfu.rs` does, by `trials.rs`) and keeps no counts (`sketch.rs` does).

use crate::policy::sketch::Sketch;
use crate::queue::{Arena, Queue};
use crate::slab::Slot;

const WINDOW: u32 = 0;
const PROBATION: u32 = 1;
const PROTECTED: u32 = 2;

/// Part of the main room that `protected` may take. The paper's.
const PROTECTED_PERCENT: u64 = 80;

/// Slots moved at once when the window's share changes.
const STEP: usize = 16;

/// The lists, and the room that they divide.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    pub(crate) window: Queue,
    pub(crate) probation: Queue,
    pub(crate) protected: Queue,
    capacity_bytes: u64,
    window_bytes: u64,
}

impl Segments {
    pub(crate) fn set_room(&mut self, capacity_bytes: u64, window_percent: u64) {
        self.capacity_bytes = capacity_bytes;
        self.window_bytes = capacity_bytes / 100 * window_percent;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.window.bytes() + self.main_bytes()
    }

    fn main_bytes(&self) -> u64 {
        self.probation.bytes() + self.protected.bytes()
    }

    fn queue(&mut self, mark: u32) -> &mut Queue {
        match mark {
            WINDOW => &mut self.window,
            PROBATION => &mut self.probation,
            _ => &mut self.protected,
        }
    }

    fn enter(&mut self, arena: &mut impl Arena, slot: Slot, mark: u32) {
        arena.set_mark(slot, mark);
        self.queue(mark).push_front(arena, slot);
    }

    /// A newcomer. While the main part has room of its own, what the window has too much goes
    /// there without a contest.
    pub(crate) fn insert(&mut self, arena: &mut impl Arena, slot: Slot) {
        self.enter(arena, slot, WINDOW);
        for _ in 0..STEP {
            let moves = self.window.bytes() > self.window_bytes
                && self.main_bytes() < self.capacity_bytes - self.window_bytes
                && self.window.back() != Some(slot);
            if !moves {
                return;
            }
            let Some(oldest) = self.window.pop_back(arena) else { return };
            self.enter(arena, oldest, PROBATION);
        }
    }

    pub(crate) fn hit(&mut self, arena: &mut impl Arena, slot: Slot) {
        match arena.mark(slot) {
            WINDOW => self.window.touch(arena, slot),
            PROTECTED => self.protected.touch(arena, slot),
            _ => {
                self.probation.unlink(arena, slot);
                self.enter(arena, slot, PROTECTED);
                let most = (self.capacity_bytes - self.window_bytes) / 100 * PROTECTED_PERCENT;
                while self.protected.bytes() > most {
                    let Some(oldest) = self.protected.pop_back(arena) else { return };
                    self.enter(arena, oldest, PROBATION);
                }
            }
        }
    }

    pub(crate) fn reweigh(&mut self, arena: &impl Arena, slot: Slot, old: u32) {
        self.queue(arena.mark(slot)).reweigh(arena, slot, old);
    }

    pub(crate) fn remove(&mut self, arena: &mut impl Arena, slot: Slot) {
        self.queue(arena.mark(slot)).unlink(arena, slot);
    }

    /// The window's oldest contends with the main part's; the one counted less often goes, of
    /// equals the newcomer (so that a loop larger than the room keeps a part of itself).
    pub(crate) fn evict(&mut self, arena: &mut impl Arena, sketch: &Sketch) -> Option<Slot> {
        self.grow_window(arena);
        let victim = self.probation.back().or(self.protected.back());
        let (contender, victim) = match (self.window.back(), victim) {
            (Some(contender), Some(victim)) => (contender, victim),
            (only, None) | (None, only) => {
                self.remove(arena, only?);
                return only;
            }
        };
        self.window.unlink(arena, contender);
        if sketch.count(arena.hash(contender)) <= sketch.count(arena.hash(victim)) {
            return Some(contender);
        }
        self.remove(arena, victim);
        self.enter(arena, contender, PROBATION);
        Some(victim)
    }

    /// After the window's share has grown: it takes over the main part's coldest as its own
    /// oldest, where they contend like any other, a few at a time. Evicting them for the
    /// newcomers' sake would throw the main part away for keys that nobody has asked for twice.
    fn grow_window(&mut self, arena: &mut impl Arena) {
        for _ in 0..STEP {
            let grows = self.window.bytes() < self.window_bytes;
            let Some(slot) = self.probation.back().filter(|_| grows) else { return };
            self.probation.unlink(arena, slot);
            arena.set_mark(slot, WINDOW);
            self.window.push_back(arena, slot);
        }
    }
}
