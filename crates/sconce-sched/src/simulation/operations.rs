//! What happens to a scheduler at random: requests come and go, steps are taken.

use proptest::prelude::*;

use crate::plan::BLOCK;
use crate::scheduler::Limits;

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Add {
        /// Prompts of the same family begin alike; those of the last one repeat one token, so
        /// that equal blocks follow different prefixes.
        family: u32,
        /// So many tokens are the family's, the others the sequence's own.
        common: usize,
        own: usize,
        new: usize,
        all_logits: bool,
        beams: usize,
    },
    Cancel(usize),
    Step {
        prompts: usize,
        cancelled_meanwhile: Vec<usize>,
    },
}

/// Mostly short prompts with long answers: many are admitted, then the cache is too small.
pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let common = prop_oneof![4 => 0..40_usize, 1 => 40..150_usize];
    let new = prop_oneof![1 => 1..20_usize, 4 => 40..100_usize];
    let add = (
        0..3_u32,
        common,
        1..40_usize,
        new,
        prop::bool::weighted(0.15),
        prop_oneof![3 => Just(1_usize), 1 => 2..5_usize],
    );
    prop_oneof![
        8 => add.prop_map(|(family, common, own, new, all_logits, beams)| {
            // Twins have nothing of their own and fill their blocks exactly, or just not.
            let filled = (common / BLOCK * BLOCK + own % 2).max(1);
            let (common, own) = if own > 25 { (filled, 0) } else { (common, own) };
            Operation::Add { family, common, own, new, all_logits, beams }
        }),
        1 => (0..100_usize).prop_map(Operation::Cancel),
        // Mostly nobody is cancelled in between.
        24 => (
            prop_oneof![1 => 0..3_usize, 3 => 3..40_usize, 3 => Just(usize::MAX)],
            prop_oneof![
                19 => Just(Vec::new()),
                1 => prop::collection::vec(0..100_usize, 1..3),
            ],
        )
        .prop_map(|(prompts, cancelled_meanwhile)| Operation::Step { prompts, cancelled_meanwhile }),
    ]
}

pub(super) fn limits() -> impl Strategy<Value = Limits> {
    let rows = prop_oneof![1 => Just(1_usize), 9 => 2..9_usize];
    let chunk = prop_oneof![1 => 1..8_usize, 3 => 8..100_usize, 1 => Just(1000)];
    let border = prop_oneof![4 => Just(None), 1 => (1..150_usize).prop_map(Some)];
    (rows, chunk, 4..12_usize, any::<bool>(), border).prop_map(
        |(max_rows, max_step_tokens, blocks, prefix_sharing, border)| Limits {
            max_rows,
            max_step_tokens,
            max_len: 220,
            blocks,
            prefix_sharing,
            border,
        },
    )
}
