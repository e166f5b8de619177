//! Checks what [`super::Scheduler`] promises; for tests and for whoever suspects a fault.

use super::Scheduler;
use crate::sequence::Tracked;

impl Scheduler {
    /// Says what is wrong if a rule is broken: every block is free, cached or owned by those
    /// whose tables name it; shared blocks hold the right tokens; sequences are in the order of
    /// arrival. Takes time in proportion to blocks and sequences.
    pub fn audit(&self) -> Result<(), String> {
        let tables: Vec<_> = self
            .running
            .iter()
            .map(|sequence| {
                let computed = &sequence.known[..sequence.computed];
                (&sequence.table, computed, sequence.id.0)
            })
            .collect();
        self.blocks.audit(&tables)?;
        if self.rows() > self.limits.max_rows {
            return Err(format!("{} texts run", self.rows()));
        }
        let all = self.running.iter().chain(&self.waiting);
        if !all.map(|sequence| sequence.arrival).is_sorted() {
            return Err("a younger sequence is before an older one".into());
        }
        self.audit_running()?;
        self.waiting.iter().try_for_each(audit_waiting)
    }

    fn audit_running(&self) -> Result<(), String> {
        for (at, sequence) in self.running.iter().enumerate() {
            let pending = sequence.pending();
            let last = at + 1 == self.running.len();
            // Texts that have parted wait for each other, with a token pending.
            let parted = usize::from(sequence.beam.is_some());
            let planned = match self.in_flight {
                true => 1 - parted..=pending,
                false => 0..=0,
            };
            // Between plans a token that was just picked is pending.
            let left = usize::from(!self.in_flight).max(parted) + sequence.planned;
            if !planned.contains(&sequence.planned) || pending == 0 || (pending > left && !last) {
                return Err(format!(
                    "{:?}, number {at} of those that run, has {pending} tokens pending and {} \
                     planned",
                    sequence.id, sequence.planned
                ));
            }
        }
        Ok(())
    }
}

fn audit_waiting(sequence: &Tracked) -> Result<(), String> {
    if sequence.computed == 0 && sequence.planned == 0 && sequence.table.capacity() == 0 {
        return Ok(());
    }
    Err(format!(
        "{:?} waits, but {} tokens are computed, {} planned, and it has room for {}",
        sequence.id,
        sequence.computed,
        sequence.planned,
        sequence.table.capacity()
    ))
}
