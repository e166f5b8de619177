//! Attention over keys and values that were stored before and that every query sees whole: cross attention. Where they
//! lie is the step's matter, as in [`super::attend`].

use candle_core::{Result, Tensor};
use half::bf16;

use super::{Attend, check, cpu};
use crate::cache::{KvDtype, KvLayer};
use crate::error::NnError;
use crate::step::{BLOCK, Step};
use crate::tensors::{self, Numbers};

/// Writes `k` and `v` `[tokens, kv_heads * head]` to their slots.
pub fn store(k: &Tensor, v: &Tensor, kv: &mut KvLayer, slots: &[u32]) -> Result<()> {
    let wanted = [slots.len(), kv.shape.kv_heads * kv.shape.head_dim];
    for (what, tensor) in [("the keys", k), ("the values", v)] {
        if tensor.dims() != wanted {
            return Err(NnError::Shape {
                what,
                shape: tensor.dims().to_vec(),
                wanted: format!("{wanted:?}"),
            }
            .into());
        }
    }
    let end = kv.blocks * BLOCK;
    if let Some(index) = slots.iter().position(|&slot| slot as usize >= end) {
        let problem = format!("slot {} of a cache of {end}", slots[index]);
        return check::refuse("token", index, problem);
    }
    let (keys, values) = (Numbers::of(k, "the keys")?, Numbers::of(v, "the values")?);
    match kv.shape.dtype {
        KvDtype::F32 => cpu::write::<f32>(&keys, &values, kv, slots),
        KvDtype::BF16 => cpu::write::<bf16>(&keys, &values, kv, slots),
        KvDtype::F16 => return Err(super::only_on_gpus()),
    }
    Ok(())
}

/// Attention of `q` `[rows, heads * head]`, one query for each row of the step, over all `k_len` keys that its blocks
/// hold; `[rows, heads * head]`. Of `step` only the rows count, and of `how` neither windows nor what goes by distance.
pub fn attend_stored(q: &Tensor, kv: &KvLayer, step: &Step, how: &Attend) -> Result<Tensor> {
    let (rows, width) = q.dims2()?;
    let (heads, head) = (kv.shape.kv_heads, kv.shape.head_dim);
    if width != heads * head || rows != step.rows.len() {
        return Err(NnError::Shape {
            what: "the queries",
            shape: q.dims().to_vec(),
            wanted: format!("[{}, {}]", step.rows.len(), heads * head),
        }
        .into());
    }
    check::stored(step, kv)?;
    let how = Attend {
        scale: how.scale,
        softcap: how.softcap,
        ..Attend::default()
    };
    let queries = Numbers::of(q, "the queries")?;
    let mut out = vec![0.0; queries.len()];
    match kv.shape.dtype {
        KvDtype::F32 => cpu::attend::<f32>(&queries, heads, kv, step, &how, &mut out),
        KvDtype::BF16 => cpu::attend::<bf16>(&queries, heads, kv, step, &how, &mut out),
        KvDtype::F16 => return Err(super::only_on_gpus()),
    }
    tensors::tensor(out, &[rows, width])
}
