//! `attend_across`: attention of the tokens of each text to those of another, which are as many for every text: patches
//! of images to each other, or to the words of a prompt. Never more than some rows of scores exist at a time.
#![allow(unsafe_code)]

use candle_core::{Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::lanes::dispatch;
use crate::kernels::cpu::mutual::{Mutual, Places, RUN, scratch_len};
use crate::kernels::cpu::parallel::{Shared, WORTH_A_FORK};
use crate::kernels::cpu::{pool, scratch};
use crate::tensors::{self, Numbers};

/// Tasks for each thread: enough to even out threads of unequal speed.
const TASKS_PER_THREAD: usize = 4;

/// Runs of queries in a task, at least: each task lays out its keys anew.
const FEWEST_RUNS: usize = 16;

/// How scores are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttendAcross {
    /// Factor of the dot products.
    pub scale: f32,
    /// Whether a token sees none behind its own place.
    pub causal: bool,
}

/// `q` is `[texts * queries, heads * head]`, `k` and `v` are `[texts * keys, heads * head]`; the result is laid out as `q`.
pub fn attend_across(
    [q, k, v]: [&Tensor; 3],
    heads: usize,
    texts: usize,
    how: AttendAcross,
) -> Result<Tensor> {
    let (tokens, width) = q.dims2()?;
    let (len, key_len) = lengths([q, k, v], heads, texts)?;
    let (queries, keys, values) = (
        Numbers::of(q, "the queries")?,
        Numbers::of(k, "the keys")?,
        Numbers::of(v, "the values")?,
    );
    let head = width / heads;
    // SAFETY: every head of every token is written: the bands cover all queries of each text.
    let mut out = unsafe { tensors::unwritten(tokens * width) };
    let shared = Shared::new(&mut out);
    let (bands, runs) = cut(texts * heads, len);
    let task = |index: usize| {
        let (which, band) = (index / bands, index % bands);
        let (text, which) = (which / heads, which % heads);
        // Bands are whole runs, so that a query's bits do not depend on how they are cut.
        let first = band * runs * RUN;
        let count = (runs * RUN).min(len - first);
        let from = (text * len + first) * width + which * head;
        let seen = text * key_len * width + which * head;
        let write = |token: usize, result: &[f32]| {
            // SAFETY: each pair of token and head belongs to one task, and `out` is borrowed during the call.
            unsafe { shared.part(from + token * width, head) }.copy_from_slice(result);
        };
        scratch::with(scratch_len(key_len, head, &Places::Nothing), |scratch| {
            dispatch(Mutual {
                queries: &queries[from..],
                keys: &keys[seen..],
                values: &values[seen..],
                stride: width,
                len: count,
                key_len,
                head,
                scale: how.scale,
                before: usize::MAX,
                behind: if how.causal { first } else { usize::MAX },
                places: Places::Nothing,
                scratch,
                out: &write,
            });
        });
    };
    let tasks = texts * heads * bands;
    if tokens * key_len * width < WORTH_A_FORK {
        (0..tasks).for_each(task);
    } else {
        pool::run(tasks, &task);
    }
    tensors::tensor(out, &[tokens, width])
}

/// Bands of queries for each of so many pairs of text and head, and runs in each.
fn cut(pairs: usize, len: usize) -> (usize, usize) {
    let runs = len.div_ceil(RUN);
    let wanted = (pool::threads() * TASKS_PER_THREAD).div_ceil(pairs.max(1));
    let each = runs.div_ceil(wanted.max(1)).max(FEWEST_RUNS.min(runs));
    (runs.div_ceil(each.max(1)), each)
}

/// Tokens of each text that attend and that are attended to.
fn lengths([q, k, v]: [&Tensor; 3], heads: usize, texts: usize) -> Result<(usize, usize)> {
    let (tokens, width) = q.dims2()?;
    let keys = k.dim(0)?;
    let whole = |count: usize| texts > 0 && count > 0 && count.is_multiple_of(texts);
    let fits = heads > 0 && width.is_multiple_of(heads) && whole(tokens) && whole(keys);
    if fits && k.dims() == [keys, width] && v.dims() == k.dims() {
        return Ok((tokens / texts, keys / texts));
    }
    Err(NnError::Shape {
        what: "the keys or values",
        shape: k.dims().to_vec(),
        wanted: format!(
            "as many tokens for each of {texts} texts and {heads} heads as for queries {:?}",
            q.dims()
        ),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::cpu::testing::{assert_close, numbers};

    fn tensor(numbers: &[f32], width: usize) -> Tensor {
        Tensor::from_slice(numbers, (numbers.len() / width, width), &Device::Cpu).unwrap()
    }

    /// The plain twin of one text, in double precision.
    fn reference(all: [&[f32]; 3], width: usize, heads: usize, how: AttendAcross) -> Vec<f32> {
        let head = width / heads;
        let [q, k, v] = all.map(|all| all.chunks_exact(width).collect::<Vec<_>>());
        let mut out = Vec::new();
        for (place, query) in q.iter().enumerate() {
            let seen = if how.causal { place + 1 } else { k.len() };
            for from in (0..width).step_by(head) {
                let part = |row: &[f32]| row[from..from + head].to_vec();
                let dot = |key: &&[f32]| -> f64 {
                    let terms = part(query).into_iter().zip(part(key));
                    terms.map(|(x, y)| f64::from(x) * f64::from(y)).sum()
                };
                let scores = k[..seen].iter().map(|key| dot(key) * f64::from(how.scale));
                let weights: Vec<f64> = scores.map(f64::exp).collect();
                let total: f64 = weights.iter().sum();
                for element in from..from + head {
                    let terms = weights
                        .iter()
                        .zip(&v)
                        .map(|(w, v)| w * f64::from(v[element]));
                    out.push((terms.sum::<f64>() / total) as f32);
                }
            }
        }
        out
    }

    #[test]
    fn texts_see_their_own_keys_and_get_the_same_bits_alone() {
        for (len, key_len, width, heads, causal) in [
            (1, 5, 8, 2, false),
            (77, 77, 24, 3, true),
            (30, 77, 10, 1, false),
            (1200, 1200, 16, 2, false),
            (900, 9, 40, 5, false),
        ] {
            let how = AttendAcross { scale: 0.4, causal };
            let texts = 3;
            let q = numbers(texts * len * width, 1);
            let k = numbers(texts * key_len * width, 2);
            let v = numbers(texts * key_len * width, 3);
            let compute = |q: &[f32], k: &[f32], v: &[f32], texts| {
                let [q, k, v] = [q, k, v].map(|numbers| tensor(numbers, width));
                let out = attend_across([&q, &k, &v], heads, texts, how).unwrap();
                out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let got = compute(&q, &k, &v, texts);
            for text in 0..texts {
                let of =
                    |all: &[f32], len: usize| all[text * len * width..][..len * width].to_vec();
                let (q, k, v) = (of(&q, len), of(&k, key_len), of(&v, key_len));
                let got = of(&got, len);
                assert_close(&got, &reference([&q, &k, &v], width, heads, how), 2e-6);
                assert_eq!(compute(&q, &k, &v, 1), got);
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_so_wherever_it_is_seen() {
        let (len, width, heads) = (40, 8, 2);
        let how = AttendAcross {
            scale: 0.4,
            causal: true,
        };
        let with_key = |number: Option<f32>| {
            let [q, mut k, v] = [1, 2, 3].map(|seed| numbers(len * width, seed));
            // Of the second head, at the place 21.
            number.into_iter().for_each(|x| k[21 * width + 5] = x);
            let [q, k, v] = [q, k, v].map(|all| tensor(&all, width));
            let out = attend_across([&q, &k, &v], heads, 1, how).unwrap();
            out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let (whole, broken) = (with_key(None), with_key(Some(f32::NAN)));
        for (at, (whole, broken)) in whole.iter().zip(&broken).enumerate() {
            let sees = at / width >= 21 && at % width >= 4;
            let kept = if sees {
                broken.is_nan()
            } else {
                broken == whole
            };
            assert!(kept, "{at}: {broken}");
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        let (q, k) = (tensor(&[0.0; 32], 8), tensor(&[0.0; 24], 8));
        let how = AttendAcross {
            scale: 1.0,
            causal: false,
        };
        let error = attend_across([&q, &k, &k], 2, 2, how)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("[3, 8]") && error.contains("2 texts"),
            "{error}"
        );
    }
}
