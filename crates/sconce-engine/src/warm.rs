//! What a model computes before it is ready: proofs that it does, and on a GPU the largest steps that there will be, so that
//! the memory they take is taken, measured and told.

use sconce_nn::{BLOCK, DeviceMemory};
use sconce_sched::{BlockId, Row, SeqId, StepPlan, Want};
use tracing::{info, warn};

use crate::error::EngineError;
use crate::memory::{Measured, Plan};
use crate::ranks::Ranks;
use crate::settings::EngineSettings;
use crate::worker::check_numbers;

/// So often a step is computed until it is played from a recording: tried, recorded, played.
const UNTIL_PLAYED: usize = 3;

/// Reserves the cache; then forward passes through every rank, whose logits must be numbers. The blocks that they write to
/// are free afterwards: nothing reads a slot before a sequence has written it.
pub(crate) fn reserve_and_warm(
    ranks: &mut Ranks,
    settings: &EngineSettings,
    plan: &Plan,
    warming: impl FnOnce(),
) -> Result<(), EngineError> {
    let failed = EngineError::Canary;
    let loaded = ranks.memory().map_err(failed)?;
    ranks.reserve(plan.blocks).map_err(failed)?;
    let reserved = ranks.memory().map_err(failed)?;
    warming();
    prove(ranks, &step(1, 1))?;
    let (Some([found, loaded]), Some([_, reserved])) = (loaded, reserved) else {
        return Ok(());
    };
    prove(ranks, &prompts(settings, plan))?;
    for _ in 0..UNTIL_PLAYED {
        let most = settings.max_rows.min(settings.max_step_tokens);
        prove(ranks, &step(most.min(plan.blocks), 1))?;
    }
    let warmed = ranks
        .memory()
        .map_err(failed)?
        .map_or(reserved, |now| now[1]);
    tell(settings, plan, [found, loaded, reserved, warmed]);
    Ok(())
}

fn tell(settings: &EngineSettings, plan: &Plan, memory: [DeviceMemory; 4]) {
    let (model, measured) = (&settings.name, Measured::new(memory));
    info!(
        model,
        "measured on the first GPU: {}",
        measured.summary(plan)
    );
    for surprise in measured.surprises(plan) {
        warn!(
            model,
            "the first GPU has {surprise}; if a start ever fails for want of memory, lower option.gpu_memory_utilization"
        );
    }
}

fn prove(ranks: &mut Ranks, plan: &StepPlan) -> Result<(), EngineError> {
    let scores = ranks.forward(plan, &[], &[]).map_err(EngineError::Canary)?;
    check_numbers(&scores.logits).map_err(EngineError::Canary)
}

/// The step that has as many tokens of prompts as any may have, as far as the cache holds them.
fn prompts(settings: &EngineSettings, plan: &Plan) -> StepPlan {
    let mut left = settings.max_step_tokens.min(plan.tokens());
    let mut rows = Vec::new();
    let mut block = 0;
    while left > 0 && rows.len() < settings.max_rows {
        let tokens = left.min(plan.max_len).min((plan.blocks - block) * BLOCK);
        if tokens == 0 {
            break;
        }
        let blocks = tokens.div_ceil(BLOCK);
        rows.push(row(rows.len(), tokens, block..block + blocks));
        block += blocks;
        left -= tokens;
    }
    StepPlan {
        rows,
        ..StepPlan::default()
    }
}

/// A step of so many sequences with so many tokens each, which fit into a block.
fn step(sequences: usize, tokens: usize) -> StepPlan {
    let rows = (0..sequences).map(|index| row(index, tokens, index..index + 1));
    StepPlan {
        rows: rows.collect(),
        ..StepPlan::default()
    }
}

fn row(index: usize, tokens: usize, blocks: std::ops::Range<usize>) -> Row {
    Row {
        seq: SeqId(u64::MAX - index as u64),
        beam: None,
        tokens: vec![0; tokens],
        proposed: 0,
        start: 0,
        blocks: blocks.map(|block| BlockId(block as u32)).collect(),
        known: tokens,
        want: Want::Last,
    }
}
