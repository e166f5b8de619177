//! Turns a plan (decisions) into a step (index vectors for the kernels). Pure.

use sconce_nn::{BLOCK, Step, StepRow};
use sconce_sched::{Row, StepPlan, Want};

/// Lays the tokens of all rows end to end, with the cache slot of each and the indices of the
/// tokens whose logits are wanted. The vectors of an older `step` are used again.
pub fn pack(plan: &StepPlan, step: &mut Step) {
    step.ids.clear();
    step.positions.clear();
    step.slots.clear();
    step.sampled.clear();
    step.rows.resize_with(plan.rows.len(), StepRow::default);
    for (at, row) in plan.rows.iter().enumerate() {
        push_row(step, at, row);
    }
}

/// How many logit rows a planned row gets back.
pub(crate) fn logit_rows(row: &Row) -> usize {
    match row.want {
        Want::None => 0,
        Want::Last => 1 + row.proposed,
        Want::All => row.tokens.len(),
    }
}

fn push_row(step: &mut Step, at: usize, row: &Row) {
    let q_start = step.ids.len();
    step.ids.extend_from_slice(&row.tokens);
    for position in row.start..row.start + row.tokens.len() {
        let slot = row.blocks[position / BLOCK].0 as usize * BLOCK + position % BLOCK;
        step.positions.push(position as u32);
        step.slots.push(slot as u32);
    }
    let end = step.ids.len();
    step.sampled
        .extend((end - logit_rows(row)..end).map(|index| index as u32));
    let packed = &mut step.rows[at];
    packed.q_start = q_start;
    packed.q_len = row.tokens.len();
    packed.k_len = row.start + row.tokens.len();
    packed.known = row.known;
    packed.blocks.clear();
    packed.blocks.extend(row.blocks.iter().map(|block| block.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use sconce_sched::{BlockId, SeqId};

    #[test]
    fn slots_follow_the_block_table_and_only_wanted_logits_are_sampled() {
        let row = |start: usize, tokens: Vec<u32>, blocks: &[u32], want| Row {
            seq: SeqId(start as u64),
            beam: None,
            proposed: 0,
            known: start + tokens.len(),
            tokens,
            start,
            blocks: blocks.iter().map(|&block| BlockId(block)).collect(),
            want,
        };
        let plan = StepPlan {
            rows: vec![
                row(31, vec![7, 8], &[5, 2], Want::Last),
                row(0, vec![1, 2, 3], &[9], Want::None),
                row(0, vec![4, 5], &[1], Want::All),
            ],
            ..StepPlan::default()
        };
        // What an older step left must not show.
        let mut step = Step::default();
        let older = row(64, vec![6; 9], &[3, 4, 8], Want::All);
        let older = StepPlan {
            rows: vec![older],
            ..StepPlan::default()
        };
        pack(&older, &mut step);
        pack(&plan, &mut step);
        assert_eq!(step.ids, [7, 8, 1, 2, 3, 4, 5]);
        assert_eq!(step.positions, [31, 32, 0, 1, 2, 0, 1]);
        assert_eq!(step.slots, [5 * 32 + 31, 2 * 32, 288, 289, 290, 32, 33]);
        assert_eq!(step.sampled, [1, 5, 6]);
        assert_eq!((step.rows[0].q_len, step.rows[0].k_len), (2, 33));
        assert_eq!(step.rows[1].q_start, 2);
        let blocks: Vec<_> = step.rows.iter().map(|row| &row.blocks[..]).collect();
        assert_eq!(blocks, [&[5, 2][..], &[9], &[1]]);
    }
}
