//! Attention of a few queries of one sequence over its cache blocks, for one kv head and all query heads that share it.
//!
//! Keys are taken block by block in their absolute order, with the softmax's maximum and sum carried along; what a
//! query sees of a block depends only on its own position. So its bits are the same whether its sequence is computed
//! at once, in chunks or token by token. Slots beyond a query's position are never multiplied in, whatever they hold.
#![allow(unsafe_code)]

mod way;

use super::broadcast::{Sizes, Target};
use super::elementwise::tanh;
use super::lanes::{Kernel, LANES, Lanes};
use super::tile::Ptr;
use crate::attention::AlibiBias;
use crate::step::BLOCK;
pub(crate) use way::Stored;
use way::Way;

/// How scores are made from dot products.
#[derive(Clone, Copy)]
pub(crate) struct Scoring<'a> {
    pub(crate) scale: f32,
    /// A query sees itself and the `window - 1` keys before.
    pub(crate) window: usize,
    pub(crate) softcap: Option<f32>,
    /// ALiBi slopes of the query heads that share the kv head, and what becomes of them.
    pub(crate) alibi: Option<(&'a [f32], AlibiBias)>,
    /// For each of these heads a number by the distance of the key before the query, and how many there are; long
    /// distances have the last.
    pub(crate) look_back: Option<(&'a [f32], usize)>,
}

/// Queries `[count, group, head]` of consecutive positions; the heads of one token lie together.
#[derive(Clone, Copy)]
pub(crate) struct Queries<'a> {
    /// From the first head of the group of the first token on.
    pub(crate) numbers: &'a [f32],
    /// Distance of tokens.
    pub(crate) stride: usize,
    pub(crate) count: usize,
    pub(crate) group: usize,
    pub(crate) head: usize,
    /// Position of the first token.
    pub(crate) position: usize,
}

/// Keys and values of a layer, with the offset of one kv head in a block.
#[derive(Clone, Copy)]
pub(crate) struct Pages<'a, T> {
    pub(crate) keys: &'a [T],
    pub(crate) values: &'a [T],
    pub(crate) kv_head: usize,
    pub(crate) kv_heads: usize,
    /// Numbers in the keys and in the values of one block and kv head.
    pub(crate) key_block: usize,
    pub(crate) value_block: usize,
    /// Numbers in a padded row of values.
    pub(crate) width: usize,
    pub(crate) blocks: &'a [u32],
}

/// One task; writes `[count, group * head]` to `out`.
pub(crate) struct Paged<'a, T> {
    pub(crate) queries: Queries<'a>,
    pub(crate) pages: Pages<'a, T>,
    pub(crate) scoring: Scoring<'a>,
    /// [`scratch_len`] numbers.
    pub(crate) scratch: &'a mut [f32],
    /// Called with token, head of the group, and the head's result.
    pub(crate) out: &'a dyn Fn(usize, usize, &[f32]),
}

/// Numbers of scratch for `rows` pairs of query and head, of which `block` for the keys or the values of a block.
pub(crate) fn scratch_len(rows: usize, head: usize, width: usize, block: usize) -> usize {
    rows * (head + BLOCK + width + 2) + block
}

/// The running state of all rows; row `query * group + head of the group`.
struct State<'a> {
    /// `[rows, head]`, scaled.
    queries: &'a mut [f32],
    /// `[rows, BLOCK]`: scores, then their exponentials.
    scores: &'a mut [f32],
    /// `[rows, width]`.
    sums: &'a mut [f32],
    /// `[rows]`.
    largest: &'a mut [f32],
    /// `[rows]`: sum of exponentials.
    total: &'a mut [f32],
    /// The keys or the values of a block, where they are not multiplied as they are kept.
    room: &'a mut [f32],
}

/// Keys of a block that a query sees.
#[derive(Clone, Copy, PartialEq)]
struct Seen {
    from: usize,
    to: usize,
}

impl<T: Stored> Kernel for Paged<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        T::attend::<L>(self);
    }
}

impl<T: Stored> Paged<'_, T> {
    #[inline(always)]
    fn attend<L: Lanes, W: Way<Stored = T>>(self) {
        let Self {
            queries,
            pages,
            scoring,
            scratch,
            out,
        } = self;
        let rows = queries.count * queries.group;
        let mut state = State::new(scratch, rows, queries.head, pages.width);
        state.take_queries(&queries, scoring.scale);
        // SAFETY: the instructions are those of the function around.
        let words = unsafe { W::rows::<L>(state.queries, queries.head) };
        let first = (queries.position + 1).saturating_sub(scoring.window) / BLOCK;
        let last = (queries.position + queries.count - 1) / BLOCK;
        for index in first..=last {
            let block = pages.blocks[index] as usize * pages.kv_heads + pages.kv_head;
            let keys = &pages.keys[block * pages.key_block..][..pages.key_block];
            let values = &pages.values[block * pages.value_block..][..pages.value_block];
            state.score::<L, W>(words, keys, rows, queries.head);
            for row in 0..rows {
                let seen = seen(&queries, &scoring, row, index * BLOCK);
                state.soften::<L>(&queries, &scoring, row, index * BLOCK, seen);
            }
            state.add_values::<L, W>(values, rows, pages.width, &|row| {
                seen(&queries, &scoring, row, index * BLOCK)
            });
        }
        for row in 0..rows {
            let sums = &mut state.sums[row * pages.width..][..pages.width];
            scale::<L>(sums, 1.0 / state.total[row]);
            out(
                row / queries.group,
                row % queries.group,
                &sums[..queries.head],
            );
        }
    }
}

/// Which keys of the block that begins at position `base` the query of a row sees.
#[inline(always)]
fn seen(queries: &Queries<'_>, scoring: &Scoring<'_>, row: usize, base: usize) -> Seen {
    let end = queries.position + row / queries.group + 1;
    let begin = end.saturating_sub(scoring.window);
    Seen {
        from: begin.saturating_sub(base).min(BLOCK),
        to: end.saturating_sub(base).min(BLOCK),
    }
}

impl<'a> State<'a> {
    #[inline(always)]
    fn new(scratch: &'a mut [f32], rows: usize, head: usize, width: usize) -> Self {
        let (queries, scratch) = scratch.split_at_mut(rows * head);
        let (scores, scratch) = scratch.split_at_mut(rows * BLOCK);
        let (sums, scratch) = scratch.split_at_mut(rows * width);
        let (largest, scratch) = scratch.split_at_mut(rows);
        let (total, room) = scratch.split_at_mut(rows);
        sums.fill(0.0);
        largest.fill(f32::NEG_INFINITY);
        total.fill(0.0);
        Self {
            queries,
            scores,
            sums,
            largest,
            total,
            room,
        }
    }

    #[inline(always)]
    fn take_queries(&mut self, queries: &Queries<'_>, scale: f32) {
        let width = queries.group * queries.head;
        for (token, to) in self.queries.chunks_exact_mut(width).enumerate() {
            let from = &queries.numbers[token * queries.stride..][..width];
            for (to, from) in to.iter_mut().zip(from) {
                *to = from * scale;
            }
        }
    }

    /// Dot products of all queries, as words, with all keys of a block.
    #[inline(always)]
    fn score<L: Lanes, W: Way>(
        &mut self,
        queries: Ptr<W::Word>,
        keys: &[W::Stored],
        rows: usize,
        head: usize,
    ) {
        let keys = Ptr {
            start: W::block(keys, BLOCK, self.room),
            stride: BLOCK,
        };
        let scores = Target {
            start: self.scores.as_mut_ptr(),
            stride: BLOCK,
            accumulate: false,
        };
        let sizes = Sizes {
            rows,
            k: head.div_ceil(W::PAIR),
            n: BLOCK,
        };
        let all = 0..sizes.k * W::PAIR;
        // SAFETY: `[rows, head]`, `[head, BLOCK]` and `[rows, BLOCK]` as they were cut in `new` and by the caller.
        unsafe { W::multiply::<L>(queries, keys, scores, sizes, &all) };
    }

    /// Turns the scores of a row into exponentials and carries maximum and sum on.
    #[inline(always)]
    fn soften<L: Lanes>(
        &mut self,
        queries: &Queries<'_>,
        scoring: &Scoring<'_>,
        row: usize,
        base: usize,
        seen: Seen,
    ) {
        if seen.from >= seen.to {
            return;
        }
        let scores = &mut self.scores[row * BLOCK..][..BLOCK];
        if let Some(cap) = scoring.softcap {
            soft_cap::<L>(scores, cap);
        }
        if let Some((slopes, bias)) = scoring.alibi {
            let (slope, position) = (
                slopes[row % queries.group],
                queries.position + row / queries.group,
            );
            for (offset, score) in scores.iter_mut().enumerate() {
                *score += bias.of(slope, base + offset, position);
            }
        }
        if let Some((numbers, reach)) = scoring.look_back {
            let numbers = &numbers[row % queries.group * reach..][..reach];
            let position = queries.position + row / queries.group;
            for (offset, score) in scores.iter_mut().enumerate() {
                let distance = position.saturating_sub(base + offset);
                *score += numbers[distance.min(reach - 1)];
            }
        }
        scores[..seen.from].fill(f32::NEG_INFINITY);
        scores[seen.to..].fill(f32::NEG_INFINITY);
        let (vectors, _) = scores.as_chunks_mut::<LANES>();
        let mut largest = L::splat(self.largest[row]);
        for vector in vectors.iter() {
            largest = largest.max(L::load(vector));
        }
        let largest = largest.largest();
        let mut total = L::splat(0.0);
        for vector in vectors.iter_mut() {
            let weight = L::load(vector).sub(L::splat(largest)).exp();
            total = total.add(weight);
            weight.store(vector);
        }
        if largest != self.largest[row] {
            let factor = L::splat(self.largest[row] - largest).exp().largest();
            let width = self.sums.len() / self.total.len();
            scale::<L>(&mut self.sums[row * width..][..width], factor);
            self.total[row] *= factor;
            self.largest[row] = largest;
        }
        self.total[row] += total.sum();
    }

    /// Adds the values of a block, weighted; rows that see the same keys go together.
    #[inline(always)]
    fn add_values<L: Lanes, W: Way>(
        &mut self,
        values: &[W::Stored],
        rows: usize,
        width: usize,
        seen: &dyn Fn(usize) -> Seen,
    ) {
        let values = Ptr {
            start: W::block(values, width, self.room),
            stride: width,
        };
        // SAFETY: the instructions are those of the function around.
        let weights = unsafe { W::rows::<L>(self.scores, BLOCK) };
        let mut row = 0;
        while row < rows {
            let Seen { from, to } = seen(row);
            let mut end = row + 1;
            while end < rows && seen(end) == (Seen { from, to }) {
                end += 1;
            }
            if from < to {
                let sums = Target {
                    start: self.sums[row * width..].as_mut_ptr(),
                    stride: width,
                    accumulate: true,
                };
                let first = from / W::PAIR;
                let sizes = Sizes {
                    rows: end - row,
                    k: to.div_ceil(W::PAIR) - first,
                    n: width,
                };
                // SAFETY: rows `row..end` of weights and sums, the words that hold keys `from..to` of the block.
                unsafe {
                    let weights = weights.starting_at(row).at(first);
                    let values = values.starting_at(first);
                    W::multiply::<L>(weights, values, sums, sizes, &(from..to));
                }
            }
            row = end;
        }
    }
}

#[inline(always)]
fn soft_cap<L: Lanes>(scores: &mut [f32], cap: f32) {
    for vector in scores.as_chunks_mut::<LANES>().0 {
        let capped = tanh(L::load(vector).div(L::splat(cap))).mul(L::splat(cap));
        capped.store(vector);
    }
}

/// Multiplies a padded row.
#[inline(always)]
fn scale<L: Lanes>(row: &mut [f32], factor: f32) {
    for vector in row.as_chunks_mut::<LANES>().0 {
        L::load(vector).mul(L::splat(factor)).store(vector);
    }
}
