//! Attention of tokens to all tokens of one text, usually its own, for one head: scores of a few queries with all keys,
//! their softmax, the weighted sum of the values.
//!
//! A text is computed by itself whatever is beside it, and its queries are cut into runs by their place in the text,
//! so that its bits do not depend on the batch.
#![allow(unsafe_code)]

use super::broadcast::{Sizes, Target, multiply};
use super::lanes::{Kernel, LANES, Lanes};
use super::tile::Ptr;

/// Queries that are computed together: enough to use each key and value from the nearest cache.
pub(crate) const RUN: usize = 24;

/// Numbers of the widest vectors, which a cache line holds.
const LINE: usize = 2 * LANES;

/// Columns of keys and scores with room for so many keys: an odd number of lines, since rows that lie a power of two apart
/// would drive each other out of the cache.
fn padded(keys: usize) -> usize {
    (keys.div_ceil(LINE) | 1) * LINE
}

/// Columns of values and results with room for a head: whole vectors of the widest.
fn widened(head: usize) -> usize {
    head.next_multiple_of(LINE)
}

/// One head of one text. Rows of queries, keys, values and results are `stride` apart.
pub(crate) struct Mutual<'a> {
    /// `[len, head]`.
    pub(crate) queries: &'a [f32],
    /// `[key_len, head]`, as are values.
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) len: usize,
    /// As many as `len` where something is made of distances.
    pub(crate) key_len: usize,
    pub(crate) head: usize,
    /// Factor of the dot products.
    pub(crate) scale: f32,
    /// A token sees those at most so far before it.
    pub(crate) before: usize,
    /// The same behind it.
    pub(crate) behind: usize,
    pub(crate) places: Places<'a>,
    /// [`scratch_len`] numbers.
    pub(crate) scratch: &'a mut [f32],
    /// Called with a token and its result `[head]`.
    pub(crate) out: &'a dyn Fn(usize, &[f32]),
}

/// What the distance of two tokens adds to their score.
#[derive(Clone, Copy)]
pub(crate) enum Places<'a> {
    Nothing,
    /// A number for each distance, from `1 - len` to `len - 1`: key less query.
    Fixed(&'a [f32]),
    /// A number for each pair, `[len, key_len]`; minus infinity where a token does not see a key.
    Each(&'a [f32]),
    Apart(Apart<'a>),
}

/// Products of queries and keys with vectors of distances, DeBERTa's way.
#[derive(Clone, Copy)]
pub(crate) struct Apart<'a> {
    /// Vectors that queries are multiplied with, as columns: `[head, stride]`, the row length a multiple of the lanes.
    pub(crate) for_queries: Option<&'a [f32]>,
    /// The same for keys.
    pub(crate) for_keys: Option<&'a [f32]>,
    pub(crate) stride: usize,
    /// The column of each distance, from `1 - len` to `len - 1`: query less key.
    pub(crate) columns: &'a [u32],
}

impl Apart<'_> {
    /// The columns that a text needs, in whole vectors: the first, and how many.
    fn span(&self) -> (usize, usize) {
        let (low, high) = self.columns.iter().fold((u32::MAX, 0), |(low, high), &at| {
            (low.min(at), high.max(at))
        });
        let first = low as usize / LANES * LANES;
        let end = (high as usize + 1).next_multiple_of(LANES).min(self.stride);
        (first, end - first)
    }
}

/// Numbers of scratch that a text of `len` keys needs.
pub(crate) fn scratch_len(len: usize, head: usize, places: &Places<'_>) -> usize {
    let (padded, width) = (padded(len), widened(head));
    let apart = match places {
        Places::Apart(apart) => (RUN + len) * apart.span().1,
        _ => 0,
    };
    head * padded + len * width + RUN * (head + padded + width) + apart
}

/// The parts of the scratch.
struct Room<'a> {
    /// `[head, padded]`.
    keys: &'a mut [f32],
    /// `[len, width]`.
    values: &'a mut [f32],
    /// `[RUN, head]`, scaled.
    queries: &'a mut [f32],
    /// `[RUN, padded]`.
    scores: &'a mut [f32],
    /// `[RUN, width]`.
    sums: &'a mut [f32],
    /// `[RUN, span]`.
    of_queries: &'a mut [f32],
    /// `[len, span]`.
    of_keys: &'a mut [f32],
    padded: usize,
    width: usize,
}

impl Kernel for Mutual<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let scratch = std::mem::take(&mut self.scratch);
        let mut room = Room::new(scratch, &self);
        self.take_keys(&mut room);
        if let Places::Apart(apart) = self.places {
            self.place_keys::<L>(&apart, &mut room);
        }
        for first in (0..self.len).step_by(RUN) {
            self.attend::<L>(first, RUN.min(self.len - first), &mut room);
        }
    }
}

impl<'a> Room<'a> {
    #[inline(always)]
    fn new(scratch: &'a mut [f32], task: &Mutual<'_>) -> Self {
        let (len, head) = (task.key_len, task.head);
        let (padded, width) = (padded(len), widened(head));
        let span = match &task.places {
            Places::Apart(apart) => apart.span().1,
            _ => 0,
        };
        let (keys, scratch) = scratch.split_at_mut(head * padded);
        let (values, scratch) = scratch.split_at_mut(len * width);
        let (queries, scratch) = scratch.split_at_mut(RUN * head);
        let (scores, scratch) = scratch.split_at_mut(RUN * padded);
        let (sums, scratch) = scratch.split_at_mut(RUN * width);
        let (of_queries, scratch) = scratch.split_at_mut(RUN * span);
        Self {
            keys,
            values,
            queries,
            scores,
            sums,
            of_queries,
            of_keys: &mut scratch[..len * span],
            padded,
            width,
        }
    }
}

impl Mutual<'_> {
    /// Keys as columns, values with whole vectors in each row.
    #[inline(always)]
    fn take_keys(&self, room: &mut Room<'_>) {
        for element in 0..self.head {
            room.keys[element * room.padded + self.key_len..(element + 1) * room.padded].fill(0.0);
        }
        for token in 0..self.key_len {
            let key = &self.keys[token * self.stride..][..self.head];
            for (element, number) in key.iter().enumerate() {
                room.keys[element * room.padded + token] = *number;
            }
            let value = &mut room.values[token * room.width..][..room.width];
            value[..self.head].copy_from_slice(&self.values[token * self.stride..][..self.head]);
            value[self.head..].fill(0.0);
        }
    }

    /// The products of all keys with the vectors of distances.
    #[inline(always)]
    fn place_keys<L: Lanes>(&self, apart: &Apart<'_>, room: &mut Room<'_>) {
        let (first, span) = apart.span();
        let Some(vectors) = apart.for_keys else {
            room.of_keys.fill(0.0);
            return;
        };
        let keys = Ptr {
            start: self.keys.as_ptr(),
            stride: self.stride,
        };
        // SAFETY: `[len, head]`, `[head, span]` from column `first` on, and `[len, span]`.
        unsafe {
            project::<L>(
                keys,
                vectors,
                apart.stride,
                first,
                room.of_keys,
                (self.len, self.head, span),
            );
        }
    }

    /// The results of `count` queries from `first` on.
    #[inline(always)]
    fn attend<L: Lanes>(&self, first: usize, count: usize, room: &mut Room<'_>) {
        for query in 0..count {
            let from = &self.queries[(first + query) * self.stride..][..self.head];
            let to = &mut room.queries[query * self.head..][..self.head];
            for (to, from) in to.iter_mut().zip(from) {
                *to = from * self.scale;
            }
        }
        // Only keys that one of these queries sees, from and to whole vectors.
        let begin = first.saturating_sub(self.before) / LANES * LANES;
        let end = (first + count)
            .saturating_add(self.behind)
            .min(self.key_len);
        let columns = end.next_multiple_of(LANES) - begin;
        let queries = Ptr {
            start: room.queries.as_ptr(),
            stride: self.head,
        };
        let keys = Ptr {
            start: room.keys[begin..].as_ptr(),
            stride: room.padded,
        };
        let scores = Target {
            start: room.scores.as_mut_ptr(),
            stride: room.padded,
            accumulate: false,
        };
        let sizes = Sizes {
            rows: count,
            k: self.head,
            n: columns,
        };
        // SAFETY: `[count, head]`, `[head, columns]` within the padded keys, `[count, columns]` of the scores.
        unsafe { multiply::<L>(queries, keys, scores, sizes) };
        if let Places::Apart(apart) = &self.places {
            self.place_queries::<L>(apart, count, room);
        }
        let mut totals = [0.0; RUN];
        for (query, total) in totals.iter_mut().enumerate().take(count) {
            *total = self.soften::<L>(first + query, query, (begin, end), room);
        }
        // Keys that a query does not see have the weight zero.
        self.add_values::<L>(count, (begin, end), room);
        for (query, total) in totals.into_iter().enumerate().take(count) {
            let sums = &mut room.sums[query * room.width..][..room.width];
            for vector in sums.as_chunks_mut::<LANES>().0 {
                L::load(vector).mul(L::splat(1.0 / total)).store(vector);
            }
            (self.out)(first + query, &sums[..self.head]);
        }
    }

    /// The products of a run of scaled queries with the vectors of distances.
    #[inline(always)]
    fn place_queries<L: Lanes>(&self, apart: &Apart<'_>, count: usize, room: &mut Room<'_>) {
        let (first, span) = apart.span();
        let Some(vectors) = apart.for_queries else {
            room.of_queries.fill(0.0);
            return;
        };
        let queries = Ptr {
            start: room.queries.as_ptr(),
            stride: self.head,
        };
        // SAFETY: `[count, head]`, `[head, span]` from column `first` on, and `[count, span]`.
        unsafe {
            project::<L>(
                queries,
                vectors,
                apart.stride,
                first,
                room.of_queries,
                (count, self.head, span),
            );
        }
    }

    /// Turns the scores of a query into exponentials, those of unseen keys into zero; their sum.
    #[inline(always)]
    fn soften<L: Lanes>(
        &self,
        token: usize,
        query: usize,
        (begin, end): (usize, usize),
        room: &mut Room<'_>,
    ) -> f32 {
        let columns = end.next_multiple_of(LANES) - begin;
        let scores = &mut room.scores[query * room.padded..][..columns];
        match &self.places {
            Places::Nothing => {}
            Places::Fixed(by_distance) => {
                // Key less query: the key `begin` is at `len - 1 + begin - token`.
                let from = &by_distance[self.len - 1 + begin - token..][..end - begin];
                for (score, added) in scores.iter_mut().zip(from) {
                    *score += added;
                }
            }
            Places::Each(numbers) => {
                let from = &numbers[token * self.key_len..][begin..end];
                for (score, added) in scores.iter_mut().zip(from) {
                    *score += added;
                }
            }
            Places::Apart(apart) => {
                let (low, span) = apart.span();
                let of_query = &room.of_queries[query * span..][..span];
                for (key, score) in (begin..end).zip(scores.iter_mut()) {
                    let column = apart.columns[self.len - 1 + token - key] as usize - low;
                    *score += of_query[column] + self.scale * room.of_keys[key * span + column];
                }
            }
        }
        let from = token.saturating_sub(self.before).max(begin) - begin;
        let to = token.saturating_add(self.behind).saturating_add(1).min(end) - begin;
        scores[..from].fill(f32::NEG_INFINITY);
        scores[to..].fill(f32::NEG_INFINITY);
        #[cfg(target_arch = "x86_64")]
        if L::WIDE {
            // SAFETY: the code around has the instructions.
            return unsafe { super::wide::soften(scores) };
        }
        let vectors = scores.as_chunks_mut::<LANES>().0;
        let mut largest = L::splat(f32::NEG_INFINITY);
        for vector in vectors.iter() {
            largest = largest.max(L::load(vector));
        }
        let largest = L::splat(largest.largest());
        let mut total = L::splat(0.0);
        for vector in vectors.iter_mut() {
            let weight = L::load(vector).sub(largest).exp();
            total = total.add(weight);
            weight.store(vector);
        }
        total.sum()
    }

    /// The values of the keys, weighted, for a run of queries.
    #[inline(always)]
    fn add_values<L: Lanes>(
        &self,
        count: usize,
        (begin, end): (usize, usize),
        room: &mut Room<'_>,
    ) {
        let scores = Ptr {
            start: room.scores.as_ptr(),
            stride: room.padded,
        };
        let values = Ptr {
            start: room.values[begin * room.width..].as_ptr(),
            stride: room.width,
        };
        let sums = Target {
            start: room.sums.as_mut_ptr(),
            stride: room.width,
            accumulate: false,
        };
        let sizes = Sizes {
            rows: count,
            k: end - begin,
            n: room.width,
        };
        // SAFETY: `count` rows of scores and of sums, the values of the keys `begin..end`.
        unsafe { multiply::<L>(scores, values, sums, sizes) };
    }
}

/// `rows · vectors` for the columns from `first` on; the sizes are rows, their length, columns.
///
/// # Safety
/// `rows` has so many rows of that length, `vectors` so many rows of `stride`, `out` room for the products.
#[inline(always)]
unsafe fn project<L: Lanes>(
    rows: Ptr<f32>,
    vectors: &[f32],
    stride: usize,
    first: usize,
    out: &mut [f32],
    (count, k, n): (usize, usize, usize),
) {
    let vectors = Ptr {
        start: vectors[first..].as_ptr(),
        stride,
    };
    let out = Target {
        start: out.as_mut_ptr(),
        stride: n,
        accumulate: false,
    };
    let sizes = Sizes { rows: count, k, n };
    // SAFETY: promised by the caller.
    unsafe { multiply::<L>(rows, vectors, out, sizes) };
}
