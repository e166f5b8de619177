//! Sequences that part into several texts: a search with beams.
//!
//! Until its prompt is computed such a sequence is as any other. Then it is a group: as many texts, which stand next to
//! each other, are equally long and step together, since each goes on from any one of those before. They share the
//! blocks of what they have in common, and take a copy of a block of several before they write to it. They step back
//! together too; each is then computed again but for its last token, which waits until all have come that far.

use std::ops::Range;

use super::Scheduler;
use crate::plan::{BlockId, Picked};
use crate::sequence::Tracked;

impl Scheduler {
    /// Behind the last text of the sequence whose first, or any other, is at `at`.
    pub(super) fn group_end(&self, at: usize) -> usize {
        let id = self.running[at].id;
        let group = self.running[at..].iter();
        at + group.take_while(|sequence| sequence.id == id).count()
    }

    /// Whether all texts of a group are there with one token pending; true for what is no group yet, or never.
    pub(super) fn steps(&self, group: Range<usize>) -> bool {
        let texts = &self.running[group];
        texts
            .iter()
            .all(|text| text.beam.is_none() || (texts.len() == text.beams && text.generates()))
    }

    /// Rows that all who run have, or will have once they have parted.
    pub(super) fn rows(&self) -> usize {
        let groups = self.running.chunk_by(|one, other| one.id == other.id);
        groups.map(|texts| texts[0].beams).sum()
    }

    /// Whether one that waits may have its rows; those of a group that runs in part are its own already.
    pub(super) fn has_rows(&self, waiting: &Tracked) -> bool {
        let joins = self
            .running
            .last()
            .is_some_and(|last| last.id == waiting.id);
        joins || self.rows() + waiting.beams <= self.limits.max_rows
    }

    /// Gives all texts of a sequence the blocks that their next step writes to, as far as there are any.
    pub(super) fn has_room(&mut self, at: usize, copies: &mut Vec<(BlockId, BlockId)>) -> bool {
        let end = self.group_end(at);
        // Those that wait for each other got all their blocks when they came, and share none that is written to.
        !self.steps(at..end)
            || self.running[at..end].iter_mut().all(|text| {
                self.blocks.grow(&mut text.table, text.known.len())
                    && self.blocks.own(&mut text.table, text.computed, copies)
            })
    }

    /// Lets a sequence go on with the texts that were picked, or ends it.
    pub(super) fn part(&mut self, picked: &[Picked]) {
        let same = |sequence: &Tracked| picked.iter().any(|one| one.seq == sequence.id);
        let Some(first) = self.running.iter().position(same) else {
            return;
        };
        let end = self.group_end(first);
        let mut next = Vec::new();
        if !picked.iter().any(|picked| picked.ends) {
            next.reserve(picked.len());
            for (beam, picked) in picked.iter().enumerate() {
                let parent = &self.running[first..end][picked.parent];
                let table = self.blocks.share(&parent.table);
                next.push(parent.child(beam, picked.token, table));
            }
        }
        for text in &mut self.running[first..end] {
            self.blocks.release(&mut text.table);
        }
        if next.first().is_some_and(Tracked::is_full) {
            for text in &mut next {
                self.blocks.release(&mut text.table);
            }
            next.clear();
        }
        self.running.splice(first..end, next);
    }
}
