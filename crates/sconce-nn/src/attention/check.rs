//! Checks that a step, its tensors and the cache fit together, so that the kernels can index without asking.

use candle_core::{Result, Tensor};

use super::{Attend, LookBack};
use crate::cache::KvLayer;
use crate::error::NnError;
use crate::step::{BLOCK, Step, StepRow};

/// Sizes that the tensors agree on.
#[derive(Debug)]
pub(super) struct Sizes {
    pub(super) tokens: usize,
    pub(super) heads: usize,
}

impl Sizes {
    pub(super) fn of(q: &Tensor, k: &Tensor, v: &Tensor, kv: &KvLayer) -> Result<Self> {
        let (tokens, kv_heads, head) = (
            q.dims().first().copied().unwrap_or(0),
            kv.shape.kv_heads,
            kv.shape.head_dim,
        );
        for (what, tensor) in [("the keys", k), ("the values", v)] {
            let width: usize = tensor.dims().iter().skip(1).product();
            if tensor.rank() < 2 || tensor.dims()[0] != tokens || width != kv_heads * head {
                let wanted = format!("[{tokens}, {kv_heads}, {head}]");
                return Err(NnError::Shape {
                    what,
                    shape: tensor.dims().to_vec(),
                    wanted,
                }
                .into());
            }
        }
        let width: usize = q.dims().iter().skip(1).product();
        let heads = width / head;
        if q.rank() < 2 || heads * head != width || heads == 0 || !heads.is_multiple_of(kv_heads) {
            let wanted = format!("[tokens, a multiple of {kv_heads} heads, {head}]");
            return Err(NnError::Shape {
                what: "the queries",
                shape: q.dims().to_vec(),
                wanted,
            }
            .into());
        }
        Ok(Self { tokens, heads })
    }
}

pub(super) fn how(how: &Attend, sizes: &Sizes) -> Result<()> {
    let refuse = |what, value: String, wanted: String| {
        Err(NnError::Value {
            what,
            value,
            wanted,
        }
        .into())
    };
    if how.window == Some(0) {
        return refuse(
            "the attention window",
            "0".into(),
            "at least 1 token".into(),
        );
    }
    if let Some(heads) = how.look_back.as_ref().map(LookBack::heads)
        && heads != sizes.heads
    {
        return refuse(
            "the number of heads of a look back",
            heads.to_string(),
            format!("that of the heads, {}", sizes.heads),
        );
    }
    match &how.alibi {
        Some(alibi) if alibi.slopes.len() != sizes.heads => refuse(
            "the number of ALiBi slopes",
            alibi.slopes.len().to_string(),
            format!("that of the heads, {}", sizes.heads),
        ),
        _ => Ok(()),
    }
}

/// Rows cover the tokens in order, positions and slots follow from the rows' lengths and blocks, blocks exist.
pub(super) fn step(step: &Step, sizes: &Sizes, kv: &KvLayer) -> Result<()> {
    let lengths = [step.slots.len(), step.positions.len()];
    if lengths != [sizes.tokens; 2] {
        return refuse(
            "length of slots and positions",
            0,
            format!("{lengths:?} for {} tokens", sizes.tokens),
        );
    }
    let mut tokens = 0;
    for (index, row) in step.rows.iter().enumerate() {
        if row.q_start != tokens || row.q_len > row.k_len {
            let StepRow {
                q_start,
                q_len,
                k_len,
                ..
            } = row;
            return refuse(
                "row",
                index,
                format!(
                    "{q_len} tokens from {q_start} of a sequence of {k_len}, after {tokens} tokens"
                ),
            );
        }
        tokens += row.q_len;
        if tokens > sizes.tokens {
            return refuse(
                "row",
                index,
                format!("it ends at token {tokens} of {}", sizes.tokens),
            );
        }
        blocks(index, row, kv)?;
        slots(row, step)?;
    }
    if tokens != sizes.tokens {
        return refuse(
            "row",
            step.rows.len(),
            format!("rows have {tokens} tokens, tensors {}", sizes.tokens),
        );
    }
    Ok(())
}

/// Each row is one query, in order, of at least one key, and its blocks exist.
pub(super) fn stored(step: &Step, kv: &KvLayer) -> Result<()> {
    for (index, row) in step.rows.iter().enumerate() {
        if (row.q_start, row.q_len) != (index, 1) || row.k_len == 0 {
            let StepRow {
                q_start,
                q_len,
                k_len,
                ..
            } = row;
            let problem = format!("{q_len} queries from {q_start} on over {k_len} keys");
            return refuse("row", index, problem);
        }
        blocks(index, row, kv)?;
    }
    Ok(())
}

fn blocks(index: usize, row: &StepRow, kv: &KvLayer) -> Result<()> {
    let needed = row.k_len.div_ceil(BLOCK);
    if row.blocks.len() < needed {
        return refuse(
            "row",
            index,
            format!(
                "{} blocks for {} tokens, {needed} are needed",
                row.blocks.len(),
                row.k_len
            ),
        );
    }
    match row
        .blocks
        .iter()
        .find(|&&block| block as usize >= kv.blocks)
    {
        Some(block) => refuse(
            "row",
            index,
            format!("block {block} of a cache of {} blocks", kv.blocks),
        ),
        None => Ok(()),
    }
}

fn slots(row: &StepRow, step: &Step) -> Result<()> {
    for offset in 0..row.q_len {
        let (token, position) = (row.q_start + offset, row.k_len - row.q_len + offset);
        let slot = row.blocks[position / BLOCK] as usize * BLOCK + position % BLOCK;
        let (got, at) = (step.slots[token], step.positions[token]);
        if got as usize != slot || at as usize != position {
            let problem = format!(
                "position {at} in slot {got}, where its row says {position} in slot {slot}"
            );
            return refuse("token", token, problem);
        }
    }
    Ok(())
}

pub(super) fn refuse(what: &'static str, index: usize, problem: String) -> Result<()> {
    Err(NnError::Step {
        what,
        index,
        problem,
    }
    .into())
}
