//! `attend_to_sums`: attention of the tokens of each text to those near them and to sums of all blocks of the text, LongT5's
//! transient-global attention (`LongT5TransientGlobalAttention` in `modeling_longt5.py`).
//!
//! Tokens behind the last whole block belong to it; a text that is shorter than a block has no sums.
#![allow(unsafe_code)]

use candle_core::{Device, Result, Tensor};

use super::mutual::DistanceBiases;
use crate::error::NnError;
use crate::kernels::cpu::lanes::dispatch;
use crate::kernels::cpu::mutual::{Mutual, Places, RUN, scratch_len};
use crate::kernels::cpu::parallel::Shared;
use crate::kernels::cpu::{pool, scratch};
use crate::tensors::{self, Numbers};

/// Runs of queries that share what they see.
const RUNS: usize = 4;

/// How scores are made.
#[derive(Clone, Copy, Debug)]
pub struct AttendToSums<'a> {
    /// Factor of the dot products.
    pub scale: f32,
    /// A token sees those at most so far away on either side.
    pub reach: usize,
    /// Tokens of a block.
    pub block: usize,
    /// What the distance of two tokens adds.
    pub near: &'a DistanceBiases,
    /// What the distance of a token's block and another adds.
    pub far: &'a DistanceBiases,
}

/// The block of a token of a text with so many of them.
fn block_of(token: usize, block: usize, blocks: usize) -> usize {
    (token / block).min(blocks.saturating_sub(1))
}

/// The sums of all whole blocks of texts `[tokens, width]` of these lengths, end to end.
pub fn sums_of_blocks(x: &Tensor, lens: &[usize], block: usize) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    let numbers = Numbers::of(x, "the input of sums")?;
    let all: usize = lens.iter().map(|len| len / block).sum();
    let mut sums = vec![0.0; all * width];
    let (mut token, mut first) = (0, 0);
    for len in lens {
        let blocks = len / block;
        for at in 0..*len {
            if blocks > 0 {
                let to = first + block_of(at, block, blocks);
                let row = &numbers[(token + at) * width..][..width];
                let sum = &mut sums[to * width..][..width];
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
        }
        (token, first) = (token + len, first + blocks);
    }
    Tensor::from_vec(sums, (all, width), &Device::Cpu)
}

/// What one text is computed from.
struct Text {
    /// Its first token, and its first sum.
    from: usize,
    sums_from: usize,
    len: usize,
    blocks: usize,
    /// Numbers of distances, `[heads, 2 * len - 1]` and `[heads, 2 * blocks - 1]`.
    near: Vec<f32>,
    far: Vec<f32>,
}

impl Text {
    /// Of texts of these lengths, end to end.
    fn all(lens: &[usize], how: &AttendToSums<'_>) -> Vec<Self> {
        let (mut from, mut sums_from) = (0, 0);
        let texts = lens.iter().map(|&len| {
            let blocks = len / how.block;
            let table = |biases: &DistanceBiases, count: usize| match count {
                0 => Vec::new(),
                count => biases.tables(count),
            };
            let text = Self {
                from,
                sums_from,
                len,
                blocks,
                near: table(how.near, len),
                far: table(how.far, blocks),
            };
            (from, sums_from) = (from + len, sums_from + blocks);
            text
        });
        texts.collect()
    }

    /// Writes what is added to the scores of `count` queries from `first` on with the tokens from `begin` to `end` and all
    /// sums.
    fn add(
        &self,
        head: usize,
        (first, count): (usize, usize),
        (begin, end): (usize, usize),
        how: &AttendToSums<'_>,
        added: &mut [f32],
    ) {
        let near = &self.near[head * (2 * self.len - 1)..][..2 * self.len - 1];
        let far = self.far.chunks(2 * self.blocks.max(1) - 1).nth(head);
        let rows = added.chunks_exact_mut(end - begin + self.blocks);
        for (query, row) in (first..first + count).zip(rows) {
            let (of_tokens, of_blocks) = row.split_at_mut(end - begin);
            for (key, added) in (begin..end).zip(of_tokens) {
                *added = match key.abs_diff(query) <= how.reach {
                    true => near[self.len - 1 + key - query],
                    false => f32::NEG_INFINITY,
                };
            }
            let own = block_of(query, how.block, self.blocks);
            for (block, added) in of_blocks.iter_mut().enumerate() {
                *added = far.map_or(0.0, |far| far[self.blocks - 1 + block - own]);
            }
        }
    }
}

/// Attention of each text: `q`, `k` and `v` are `[tokens, heads * head]` of texts end to end, whose lengths are `lens`,
/// `far` the keys and values of [`sums_of_blocks`]; the result is laid out as `q`.
pub fn attend_to_sums(
    [q, k, v]: [&Tensor; 3],
    far: [&Tensor; 2],
    heads: usize,
    lens: &[usize],
    how: &AttendToSums<'_>,
) -> Result<Tensor> {
    let (tokens, width) = q.dims2()?;
    let texts = Text::all(lens, how);
    check([q, k, v], [tokens, lens.iter().sum()], heads)?;
    let sums = texts.iter().map(|text| text.blocks).sum();
    check([far[0], far[1], far[1]], [far[0].dim(0)?, sums], heads)?;
    let queries = Numbers::of(q, "the queries")?;
    let (keys, values) = (Numbers::of(k, "the keys")?, Numbers::of(v, "the values")?);
    let far_keys = Numbers::of(far[0], "the keys of sums")?;
    let far_values = Numbers::of(far[1], "the values of sums")?;
    let head = width / heads;
    // Bands of queries begin at fixed places of their text, so that its bits do not depend on the batch.
    let bands = texts.iter().enumerate().flat_map(|(at, text)| {
        let firsts = (0..text.len).step_by(RUNS * RUN);
        firsts.flat_map(move |first| (0..heads).map(move |which| (at, first, which)))
    });
    let bands: Vec<(usize, usize, usize)> = bands.collect();
    // SAFETY: the texts are all tokens, and every head of each is written.
    let mut out = unsafe { tensors::unwritten(tokens * width) };
    let shared = Shared::new(&mut out);
    let task = |index: usize| {
        let (text, first, which) = bands[index];
        let text = &texts[text];
        let count = (RUNS * RUN).min(text.len - first);
        let begin = first.saturating_sub(how.reach);
        let end = (first + count).saturating_add(how.reach).min(text.len);
        let key_len = end - begin + text.blocks;
        let write = |token: usize, result: &[f32]| {
            let at = (text.from + first + token) * width + which * head;
            // SAFETY: each pair of token and head belongs to one task, and `out` is borrowed during the call.
            unsafe { shared.part(at, head) }.copy_from_slice(result);
        };
        // Rows of one head, end to end.
        let gather = |all: &[f32], rows: std::ops::Range<usize>, to: &mut [f32]| {
            for (row, to) in rows.zip(to.chunks_exact_mut(head)) {
                to.copy_from_slice(&all[row * width + which * head..][..head]);
            }
        };
        let seen = |near: &[f32], far: &[f32], to: &mut [f32]| {
            let (of_tokens, of_blocks) = to.split_at_mut((end - begin) * head);
            gather(near, text.from + begin..text.from + end, of_tokens);
            gather(far, text.sums_from..text.sums_from + text.blocks, of_blocks);
        };
        let own = count * head + 2 * key_len * head + count * key_len;
        let room = own + scratch_len(key_len, head, &Places::Each(&[]));
        scratch::with(room, |room| {
            let (asked, room) = room.split_at_mut(count * head);
            let (of_keys, room) = room.split_at_mut(key_len * head);
            let (of_values, room) = room.split_at_mut(key_len * head);
            let (added, scratch) = room.split_at_mut(count * key_len);
            gather(
                &queries,
                text.from + first..text.from + first + count,
                asked,
            );
            seen(&keys, &far_keys, of_keys);
            seen(&values, &far_values, of_values);
            text.add(which, (first, count), (begin, end), how, added);
            dispatch(Mutual {
                queries: asked,
                keys: of_keys,
                values: of_values,
                stride: head,
                len: count,
                key_len,
                head,
                scale: how.scale,
                before: usize::MAX,
                behind: usize::MAX,
                places: Places::Each(added),
                scratch,
                out: &write,
            });
        });
    };
    pool::run(bands.len(), &task);
    tensors::tensor(out, &[tokens, width])
}

fn check(all: [&Tensor; 3], [rows, wanted]: [usize; 2], heads: usize) -> Result<()> {
    let shape = [rows, all[0].dim(1)?];
    if rows == wanted
        && heads > 0
        && shape[1].is_multiple_of(heads)
        && all.iter().all(|tensor| tensor.dims() == shape)
    {
        return Ok(());
    }
    Err(NnError::Shape {
        what: "the queries, keys or values",
        shape: shape.to_vec(),
        wanted: format!("[{wanted}, a multiple of {heads} heads] for all"),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::Buckets;
    use crate::kernels::cpu::testing::{assert_close, numbers};

    const HEADS: usize = 2;
    const HEAD: usize = 6;
    const WIDTH: usize = HEADS * HEAD;
    const BLOCK: usize = 8;
    const REACH: usize = 5;

    fn tensor(numbers: &[f32]) -> Tensor {
        Tensor::from_slice(numbers, (numbers.len() / WIDTH, WIDTH), &Device::Cpu).unwrap()
    }

    fn biases(seed: u64) -> DistanceBiases {
        let buckets = Buckets::Halves {
            count: 8,
            longest: 20,
        };
        DistanceBiases::new(numbers(8 * HEADS, seed), HEADS, buckets).unwrap()
    }

    /// The plain twin of one text, in double precision; keys of sums lie behind those of tokens.
    fn reference(q: &[f32], k: &[f32], v: &[f32], how: &AttendToSums<'_>) -> Vec<f32> {
        let (len, all) = (q.len() / WIDTH, k.len() / WIDTH);
        let blocks = all - len;
        let (near, far) = (how.near.tables(len), how.far.tables(blocks.max(1)));
        let mut out = Vec::new();
        for token in 0..len {
            for head in 0..HEADS {
                let part =
                    |of: &[f32], row: usize| of[row * WIDTH + head * HEAD..][..HEAD].to_vec();
                let own = block_of(token, BLOCK, blocks);
                let score = |key: usize| {
                    let terms = part(q, token).into_iter().zip(part(k, key));
                    let dot: f64 = terms.map(|(x, y)| f64::from(x) * f64::from(y)).sum();
                    let added = match key.checked_sub(len) {
                        None if key.abs_diff(token) > REACH => f32::NEG_INFINITY,
                        None => near[head * (2 * len - 1) + len - 1 + key - token],
                        Some(block) => far[head * (2 * blocks - 1) + blocks - 1 + block - own],
                    };
                    dot * f64::from(how.scale) + f64::from(added)
                };
                let weights: Vec<f64> = (0..all).map(|key| score(key).exp()).collect();
                let total: f64 = weights.iter().sum();
                for element in 0..HEAD {
                    let sum: f64 = (0..all)
                        .map(|key| weights[key] * f64::from(part(v, key)[element]))
                        .sum();
                    out.push((sum / total) as f32);
                }
            }
        }
        out
    }

    #[test]
    fn tokens_see_their_neighbours_and_all_blocks_and_get_the_same_bits_alone() {
        let (near, far) = (biases(1), biases(2));
        let how = AttendToSums {
            scale: 0.7,
            reach: REACH,
            block: BLOCK,
            near: &near,
            far: &far,
        };
        // Shorter than a block, whole blocks, tokens left over, more than a band.
        let lens = [3, 16, 29, 230];
        let tokens: usize = lens.iter().sum();
        let [q, k, v] = [3, 4, 5].map(|seed| numbers(tokens * WIDTH, seed));
        let compute = |q: &[f32], k: &[f32], v: &[f32], lens: &[usize]| {
            let [q, k, v] = [q, k, v].map(tensor);
            let far = [&k, &v].map(|x| sums_of_blocks(x, lens, BLOCK).unwrap());
            let out = attend_to_sums([&q, &k, &v], far.each_ref(), HEADS, lens, &how).unwrap();
            let far = far.map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            (out.flatten_all().unwrap().to_vec1::<f32>().unwrap(), far)
        };
        let (together, _) = compute(&q, &k, &v, &lens);
        let mut from = 0;
        for len in lens {
            let of = |all: &[f32]| all[from * WIDTH..][..len * WIDTH].to_vec();
            let (q, k, v) = (of(&q), of(&k), of(&v));
            let (alone, [far_keys, far_values]) = compute(&q, &k, &v, &[len]);
            assert_eq!(alone, of(&together), "{len}");
            let (k, v) = ([k, far_keys].concat(), [v, far_values].concat());
            assert_eq!(k.len() / WIDTH, len + len / BLOCK);
            assert_close(&alone, &reference(&q, &k, &v, &how), 3e-6);
            from += len;
        }
    }

    #[test]
    fn tokens_behind_the_last_whole_block_belong_to_it() {
        let x: Vec<f32> = (0..7).map(|token| token as f32).collect();
        let x = Tensor::from_vec(x, (7, 1), &Device::Cpu).unwrap();
        let sums = sums_of_blocks(&x, &[5, 2], 2).unwrap();
        let sums: Vec<f32> = sums.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(sums, [1.0, 9.0, 11.0]);
    }

    #[test]
    fn sums_of_other_texts_are_errors() {
        let (near, far) = (biases(1), biases(2));
        let how = AttendToSums {
            scale: 1.0,
            reach: 1,
            block: BLOCK,
            near: &near,
            far: &far,
        };
        let (x, none) = (tensor(&[0.0; 9 * WIDTH]), tensor(&[]));
        let error = attend_to_sums([&x, &x, &x], [&none, &none], HEADS, &[9], &how).unwrap_err();
        assert!(error.to_string().contains("[1, a multiple of 2"), "{error}");
    }
}
