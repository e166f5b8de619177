//! The scheduler alone: what planning and committing cost per step and per sequence.
//!
//! `cargo bench -p sconce-sched --bench scheduler`. Medians of interleaved rounds: the machine
//! may be noisy. Picking is not timed, building the plan's rows is.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use sconce_sched::{BLOCK, Limits, Picked, Scheduler, SeqId, Sequence, StepPlan, Want};

const ROUNDS: usize = 21;
/// Steps per round: each generating sequence takes two more blocks meanwhile.
const STEPS: usize = 64;
const PROMPT: usize = 512;
const LONG_PROMPT: usize = 4096;

fn main() {
    println!("medians of {ROUNDS} interleaved rounds of {STEPS} steps");
    decode();
    admission();
}

/// Nanoseconds of the two halves of a step.
#[derive(Default)]
struct Times {
    plan: Vec<f64>,
    commit: Vec<f64>,
}

impl Times {
    fn print(self, what: &str, sequences: usize) {
        let (plan, commit) = (median(self.plan), median(self.commit));
        let each = (plan + commit) / sequences as f64;
        println!("{what}: plan {plan:8.0} ns, commit {commit:8.0} ns, {each:6.1} ns per sequence");
    }
}

/// Sequences that generate, after prompts of 512 tokens.
fn decode() {
    let mut cases: Vec<_> = [1, 64, 1024]
        .map(|sequences| (sequences, generating(sequences), Times::default()))
        .into();
    let mut rows = StepPlan::default();
    for _ in 0..ROUNDS {
        for (_, scheduler, times) in &mut cases {
            let (mut plan, mut commit) = (Duration::ZERO, Duration::ZERO);
            for _ in 0..STEPS {
                let (planned, committed) = step(scheduler, &mut rows, false);
                plan += planned;
                commit += committed;
            }
            times.plan.push(plan.as_nanos() as f64 / STEPS as f64);
            times.commit.push(commit.as_nanos() as f64 / STEPS as f64);
        }
    }
    for (sequences, _, times) in cases {
        times.print(&format!("decode, {sequences:>4} sequences"), sequences);
    }
}

/// Prompts of 4096 tokens that join an otherwise idle scheduler: all but the last block cached,
/// or nothing cached and everything to be evicted.
fn admission() {
    let mut scheduler = Scheduler::new(limits(1, 2 * LONG_PROMPT / BLOCK));
    let mut plan = StepPlan::default();
    let (mut hits, mut misses) = (Times::default(), Times::default());
    let mut id = 0;
    let mut one = |salt: u32, times: &mut Times| {
        id += 1;
        let added = scheduler.add(sequence(id, LONG_PROMPT, 1, salt));
        added.expect("the cache holds it");
        let (planned, committed) = step(&mut scheduler, &mut plan, true);
        times.plan.push(planned.as_nanos() as f64);
        times.commit.push(committed.as_nanos() as f64);
    };
    one(0, &mut Times::default());
    for round in 0..(ROUNDS * STEPS) as u32 {
        one(0, &mut hits);
        one(1 + round, &mut misses);
    }
    hits.print("admission, 4096 tokens cached", 1);
    misses.print("admission, 4096 tokens new   ", 1);
}

/// A scheduler with so many sequences past their prompts.
fn generating(sequences: usize) -> Scheduler {
    let new = (ROUNDS + 1) * STEPS;
    let blocks = sequences * (PROMPT + new).div_ceil(BLOCK) + sequences;
    let mut scheduler = Scheduler::new(limits(sequences, blocks));
    for id in 0..sequences as u64 {
        let added = scheduler.add(sequence(id, PROMPT, new, id as u32));
        added.expect("the cache holds it");
    }
    let mut plan = StepPlan::default();
    while scheduler.load().waiting > 0 {
        step(&mut scheduler, &mut plan, false);
    }
    step(&mut scheduler, &mut plan, false);
    scheduler
}

fn limits(max_rows: usize, blocks: usize) -> Limits {
    Limits {
        max_rows,
        max_step_tokens: 8192,
        max_len: 8192,
        blocks,
        prefix_sharing: true,
        border: None,
    }
}

fn sequence(id: u64, length: usize, max_new_tokens: usize, salt: u32) -> Sequence {
    Sequence {
        id: SeqId(id),
        prompt: (0..length as u32).map(|at| at ^ (salt << 16)).collect(),
        max_new_tokens,
        all_logits: false,
        adapter: 0,
        beams: 1,
    }
}

/// Plans and commits one step; how long each took.
fn step(scheduler: &mut Scheduler, plan: &mut StepPlan, ends: bool) -> (Duration, Duration) {
    let began = Instant::now();
    scheduler.plan(usize::MAX, black_box(plan));
    let planned = began.elapsed();
    let picked = pick(plan, ends);
    let began = Instant::now();
    scheduler.commit(plan, black_box(&picked));
    (planned, began.elapsed())
}

fn pick(plan: &StepPlan, ends: bool) -> Vec<Picked> {
    let wanted = plan.rows.iter().filter(|row| row.want == Want::Last);
    let picked = wanted.map(|row| Picked::new(row.seq, row.start as u32, ends));
    picked.collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
