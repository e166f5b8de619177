//! What the engine allocates from step to step beside the model: nothing, but for a few words
//! where a sequence enters a new block of the cache.
#![allow(clippy::unwrap_used)]

use allocation_counter::measure;
use sconce_core::Sampling;
use sconce_engine::pack;
use sconce_engine::sampler::{Sampler, Scratch};
use sconce_nn::{BLOCK, Step};
use sconce_sched::{Limits, Picked, Scheduler, SeqId, Sequence, StepPlan};

const VOCAB: usize = 1000;
const ROWS: u64 = 8;
const NEW: usize = 8 * BLOCK;

/// Plans, packs, samples and commits as the engine does, with made-up logits.
struct Loop {
    scheduler: Scheduler,
    plan: StepPlan,
    step: Step,
    samplers: Vec<Sampler>,
    scratch: Scratch,
    logits: Vec<f32>,
    picked: Vec<Picked>,
}

impl Loop {
    fn new(prefix_sharing: bool) -> Self {
        let mut scheduler = Scheduler::new(Limits {
            max_rows: ROWS as usize,
            max_step_tokens: 512,
            max_len: 4096,
            blocks: 1024,
            prefix_sharing,
            border: None,
        });
        for id in 0..ROWS {
            let added = scheduler.add(Sequence {
                id: SeqId(id),
                prompt: (0..50).map(|at| at + 100 * id as u32).collect(),
                max_new_tokens: NEW + 10,
                all_logits: false,
                adapter: 0,
                beams: 1,
            });
            added.unwrap();
        }
        let value = |at: usize| (at.wrapping_mul(0x9E37_79B9) >> 9) % 997;
        Self {
            scheduler,
            plan: StepPlan::default(),
            step: Step::default(),
            samplers: (0..ROWS).map(sampler).collect(),
            scratch: Scratch::default(),
            logits: (0..VOCAB).map(|at| value(at) as f32 / 50.0).collect(),
            picked: Vec::new(),
        }
    }

    /// One step; whether a sequence enters a block in it.
    fn step(&mut self) -> bool {
        self.scheduler.plan(16, &mut self.plan);
        pack(&self.plan, &mut self.step);
        self.picked.clear();
        for row in &self.plan.rows {
            if row.start + row.tokens.len() == row.known {
                let sampler = &mut self.samplers[row.seq.0 as usize];
                let picked = sampler.pick(&self.logits, 0, &mut self.scratch).unwrap();
                self.picked.push(Picked::new(row.seq, picked.token, false));
            }
        }
        self.scheduler.commit(&self.plan, &self.picked);
        let mut rows = self.plan.rows.iter();
        rows.any(|row| row.start.is_multiple_of(BLOCK) || row.known.is_multiple_of(BLOCK))
    }
}

/// Greedy, and every filter alone.
fn sampler(row: u64) -> Sampler {
    let plain = Sampling {
        do_sample: row > 0,
        ..Sampling::default()
    };
    let params = match row {
        2 => Sampling { top_k: 40, ..plain },
        3 => Sampling {
            top_p: 0.9,
            ..plain
        },
        4 => Sampling {
            min_p: 0.05,
            ..plain
        },
        5 => Sampling {
            typical_p: 0.9,
            ..plain
        },
        6 => Sampling {
            frequency_penalty: 0.0,
            temperature: 0.7,
            ..plain
        },
        _ => plain,
    };
    Sampler::new(&params, &[], 0, &[], row)
}

/// Runs until all generate, then to the end: allocations within blocks, and at their borders.
fn count(prefix_sharing: bool) -> (u64, u64) {
    let mut engine = Loop::new(prefix_sharing);
    while engine.scheduler.load().generating < ROWS as usize {
        engine.step();
    }
    for _ in 0..4 {
        engine.step();
    }
    let (mut within, mut at_borders) = (0, 0);
    for _ in 0..NEW - 2 * BLOCK {
        let mut enters = false;
        let counted = measure(|| enters = engine.step()).count_total;
        *if enters { &mut at_borders } else { &mut within } += counted;
    }
    assert_eq!(engine.scheduler.load().generating, ROWS as usize);
    (within, at_borders)
}

#[test]
fn nothing_is_allocated_within_a_block_of_the_cache() {
    assert!(
        measure(|| drop(vec![1])).count_total > 0,
        "allocations are counted"
    );
    let (within, at_borders) = count(false);
    assert_eq!(within, 0);
    // The lists of blocks in plan and step double when they are full.
    assert!(at_borders <= 2 * 2 * ROWS, "{at_borders}");
    let (within, at_borders) = count(true);
    assert_eq!(within, 0);
    // Beside that, what a full block holds is kept so that it can be shared.
    let blocks = ROWS * (NEW / BLOCK) as u64;
    assert!(
        at_borders <= 2 * 2 * ROWS + 2 * blocks,
        "{at_borders} for {blocks} blocks"
    );
}
