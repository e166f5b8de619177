//! Attention on the CPU: cuts a step into tasks of a few queries and one kv head each.
#![allow(unsafe_code)]

use super::Attend;
use crate::cache::KvLayer;
use crate::kernels::cpu::lanes::dispatch_bf16;
use crate::kernels::cpu::paged::{Paged, Pages, Queries, Scoring, Stored, scratch_len};
use crate::kernels::cpu::parallel::{Shared, WORTH_A_FORK};
use crate::kernels::cpu::{pool, scratch};
use crate::step::{BLOCK, Step};

/// Pairs of query and head that one task handles at least: enough to use each key and value from the nearest cache.
const ROWS: usize = 24;

/// A run of consecutive queries of one row of the step.
struct Chunk {
    row: usize,
    /// Index of the first query among the row's.
    first: usize,
    count: usize,
}

/// Writes keys and values `[tokens, kv_heads, head]` to their slots.
pub(super) fn write<T: Stored>(keys: &[f32], values: &[f32], kv: &mut KvLayer, slots: &[u32]) {
    let (shape, head) = (kv.shape, kv.shape.head_dim);
    let (width, pair) = (shape.value_width(), T::PAIR);
    let to_keys = Shared::new(kv.keys.numbers_mut::<T>());
    let to_values = Shared::new(kv.values.numbers_mut::<T>());
    let write_head = |kv_head: usize| {
        for (token, &slot) in slots.iter().enumerate() {
            let (block, offset) = (
                slot as usize / BLOCK * shape.kv_heads + kv_head,
                slot as usize % BLOCK,
            );
            let from = (token * shape.kv_heads + kv_head) * head;
            // SAFETY: blocks of different kv heads do not overlap, each is written by one task, and the cache is
            // borrowed for the call.
            let (keys_to, values_to) = unsafe {
                let start = block * shape.value_block() + offset / pair * pair * width;
                (
                    to_keys.part(block * shape.key_block(), shape.key_block()),
                    to_values.part(start, pair * width),
                )
            };
            for (element, key) in keys[from..from + head].iter().enumerate() {
                let word = element / pair * BLOCK + offset;
                keys_to[word * pair + element % pair] = T::of(*key);
            }
            if !head.is_multiple_of(pair) {
                keys_to[(head / pair * BLOCK + offset) * pair + head % pair] = T::of(0.0);
            }
            let values_to = values_to.iter_mut().skip(offset % pair).step_by(pair);
            for (to, value) in values_to.zip(&values[from..from + head]) {
                *to = T::of(*value);
            }
        }
    };
    if keys.len() < WORTH_A_FORK {
        (0..shape.kv_heads).for_each(write_head);
    } else {
        pool::run(shape.kv_heads, &write_head);
    }
}

/// Attends over what the cache holds; `q` and `out` are `[tokens, heads, head]`.
pub(super) fn attend<T: Stored>(
    q: &[f32],
    heads: usize,
    kv: &KvLayer,
    step: &Step,
    how: &Attend,
    out: &mut [f32],
) {
    let group = heads / kv.shape.kv_heads;
    let chunks = chunks(step, ROWS.div_ceil(group));
    let out = Shared::new(out);
    let task = |index: usize| {
        let (chunk, kv_head) = (
            &chunks[index / kv.shape.kv_heads],
            index % kv.shape.kv_heads,
        );
        attend_chunk::<T>(q, heads, kv, step, how, chunk, kv_head, &out);
    };
    let tasks = chunks.len() * kv.shape.kv_heads;
    let work: usize = step
        .rows
        .iter()
        .map(|row| row.q_len * row.k_len * heads * kv.shape.head_dim)
        .sum();
    if work < WORTH_A_FORK {
        (0..tasks).for_each(task);
    } else {
        pool::run(tasks, &task);
    }
}

/// Cuts every row into runs of at most `queries` queries.
fn chunks(step: &Step, queries: usize) -> Vec<Chunk> {
    let of_row = |(row, len): (usize, usize)| {
        (0..len).step_by(queries).map(move |first| Chunk {
            row,
            first,
            count: queries.min(len - first),
        })
    };
    step.rows
        .iter()
        .map(|row| row.q_len)
        .enumerate()
        .flat_map(of_row)
        .collect()
}

#[allow(clippy::too_many_arguments)]
fn attend_chunk<T: Stored>(
    q: &[f32],
    heads: usize,
    kv: &KvLayer,
    step: &Step,
    how: &Attend,
    chunk: &Chunk,
    kv_head: usize,
    out: &Shared<f32>,
) {
    let (shape, head) = (kv.shape, kv.shape.head_dim);
    let group = heads / shape.kv_heads;
    let row = &step.rows[chunk.row];
    let token = row.q_start + chunk.first;
    let queries = Queries {
        numbers: &q[(token * heads + kv_head * group) * head..],
        stride: heads * head,
        count: chunk.count,
        group,
        head,
        position: row.k_len - row.q_len + chunk.first,
    };
    let pages = Pages {
        keys: kv.keys.numbers::<T>(),
        values: kv.values.numbers::<T>(),
        kv_head,
        kv_heads: shape.kv_heads,
        key_block: shape.key_block(),
        value_block: shape.value_block(),
        width: shape.value_width(),
        blocks: &row.blocks,
    };
    let scoring = Scoring {
        scale: how.scale,
        window: how.window.unwrap_or(usize::MAX),
        softcap: how.softcap,
        alibi: how.alibi.as_ref().map(|alibi| {
            let slopes = &alibi.slopes[kv_head * group..(kv_head + 1) * group];
            (slopes, alibi.bias)
        }),
        look_back: how
            .look_back
            .as_ref()
            .map(|look_back| look_back.of_heads(kv_head * group, group)),
    };
    let write = |query: usize, member: usize, result: &[f32]| {
        let start = ((token + query) * heads + kv_head * group + member) * head;
        // SAFETY: each pair of token and head belongs to one task, and `out` is borrowed during the call.
        unsafe { out.part(start, head) }.copy_from_slice(result);
    };
    let block = pages.key_block.max(pages.value_block);
    let len = scratch_len(chunk.count * group, head, pages.width, block);
    scratch::with(len, |scratch| {
        dispatch_bf16(Paged {
            queries,
            pages,
            scoring,
            scratch,
            out: &write,
        });
    });
}
