//! `attend_mutually`: attention of all tokens of each text to each other, without a cache and without padding.
//! What a model makes of the distance of tokens is a table here; which one it has is the model's matter.
#![allow(unsafe_code)]

use candle_core::{Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::lanes::{LANES, dispatch};
use crate::kernels::cpu::mutual::{Apart, Mutual, Places, scratch_len};
use crate::kernels::cpu::parallel::{Shared, WORTH_A_FORK};
use crate::kernels::cpu::{pool, scratch};
use crate::tensors::{self, Numbers};

/// How scores are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttendMutually<'a> {
    /// Factor of the dot products.
    pub scale: f32,
    /// A token sees those at most so far away on either side; `None`: all.
    pub reach: Option<usize>,
    /// What the distance of two tokens adds.
    pub distances: Option<Distances<'a>>,
}

/// What the distance of two tokens adds to their score.
#[derive(Clone, Copy, Debug)]
pub enum Distances<'a> {
    /// A learned number for each head and bucket of distances.
    Biases(&'a DistanceBiases),
    /// Products of queries and keys with vectors of buckets.
    Vectors(&'a DistanceVectors),
}

/// Into which bucket a distance falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// Half of the buckets for each direction, one for each short distance, wider ones for long distances up to
    /// `longest`: T5's and MPNet's (`relative_position_bucket` in `modeling_mpnet.py`).
    Halves {
        /// All of them.
        count: usize,
        /// From here on all distances share the last.
        longest: usize,
    },
    /// The same around a middle, DeBERTa's (`make_log_bucket_position` in `modeling_deberta_v2.py`); `count` 0: a
    /// bucket for each distance below `longest`.
    Middle {
        /// Those of each direction.
        count: usize,
        /// Longest distance.
        longest: usize,
    },
    /// All buckets for keys before the query, as [`Buckets::Halves`] has them for one direction: T5's decoder. Keys
    /// behind the query count as the query itself.
    Before {
        /// All of them.
        count: usize,
        /// From here on all distances share the last.
        longest: usize,
    },
}

impl Buckets {
    /// The bucket of a distance, query less key.
    fn of(self, distance: i64) -> usize {
        match self {
            Self::Halves { count, longest } => {
                let half = count / 2;
                let side = if distance < 0 { half } else { 0 };
                side + widening(distance.unsigned_abs() as usize, half, longest)
            }
            Self::Before { count, longest } => widening(distance.max(0) as usize, count, longest),
            Self::Middle { count, longest } => {
                let span = if count > 0 { count } else { longest } as i64;
                let bucket = if count > 0 {
                    middle(distance, count as i64, longest)
                } else {
                    distance
                };
                (bucket + span).clamp(0, 2 * span - 1) as usize
            }
        }
    }

    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Self::Halves { count, .. } | Self::Before { count, .. } => count,
            Self::Middle { count: 0, longest } => 2 * longest,
            Self::Middle { count, .. } => 2 * count,
        }
    }
}

/// One of `count` buckets for a distance in one direction: the first half have one each.
fn widening(size: usize, count: usize, longest: usize) -> usize {
    let exact = count / 2;
    if size < exact {
        return size;
    }
    // In f32 as torch computes it, but for the divisor, which is a number of Python.
    let divisor = (longest as f64 / exact as f64).ln() as f32;
    let share = (size as f32 / exact as f32).ln() / divisor;
    let wide = exact + (share * (count - exact) as f32) as usize;
    wide.min(count - 1)
}

/// DeBERTa's bucket of a distance, between minus and plus `count`.
fn middle(distance: i64, count: i64, longest: usize) -> i64 {
    let mid = count / 2;
    let size = if distance.abs() < mid {
        mid - 1
    } else {
        distance.abs()
    };
    if size <= mid {
        return distance;
    }
    let (mid_f, size) = (mid as f32, size as f32);
    let log = (size / mid_f).ln() / ((longest as f32 - 1.0) / mid_f).ln() * (mid_f - 1.0);
    (log.ceil() as i64 + mid) * distance.signum()
}

/// A learned number for each head and bucket.
#[derive(Clone, Debug)]
pub struct DistanceBiases {
    /// `[buckets, heads]`, as it is stored.
    numbers: Vec<f32>,
    heads: usize,
    buckets: Buckets,
}

impl DistanceBiases {
    /// Of a table `[buckets, heads]`.
    pub fn new(numbers: Vec<f32>, heads: usize, buckets: Buckets) -> Result<Self> {
        if numbers.len() != heads * buckets.count() {
            return Err(NnError::Shape {
                what: "the biases of distances",
                shape: vec![numbers.len()],
                wanted: format!("{} × {heads}", buckets.count()),
            }
            .into());
        }
        Ok(Self {
            numbers,
            heads,
            buckets,
        })
    }

    /// The numbers for the distances 0 to `longest` of a key before its query, `[heads, longest + 1]`.
    pub(super) fn before(&self, longest: usize) -> Vec<f32> {
        let of_head = |head: usize| {
            let bucket = |distance: usize| self.buckets.of(distance as i64);
            (0..=longest).map(move |distance| self.numbers[bucket(distance) * self.heads + head])
        };
        (0..self.heads).flat_map(of_head).collect()
    }

    /// For each head the numbers of the distances `1 - len` to `len - 1`, key less query.
    pub(super) fn tables(&self, len: usize) -> Vec<f32> {
        let distances = 2 * len - 1;
        let buckets: Vec<usize> = (0..distances)
            .map(|at| self.buckets.of(len as i64 - 1 - at as i64))
            .collect();
        let of_head = |head: usize| {
            let heads = self.heads;
            buckets
                .iter()
                .map(move |bucket| self.numbers[bucket * heads + head])
        };
        (0..self.heads).flat_map(of_head).collect()
    }
}

/// Vectors for each head and bucket.
#[derive(Clone, Debug)]
pub struct DistanceVectors {
    /// `[heads, head, stride]`.
    for_queries: Option<Vec<f32>>,
    for_keys: Option<Vec<f32>>,
    stride: usize,
    head: usize,
    buckets: Buckets,
}

impl DistanceVectors {
    /// Of vectors `[buckets, heads * head]` that queries, and keys, are multiplied with.
    pub fn new(
        for_queries: Option<&Tensor>,
        for_keys: Option<&Tensor>,
        head: usize,
        buckets: Buckets,
    ) -> Result<Self> {
        let stride = buckets.count().next_multiple_of(LANES);
        let columns = |table: Option<&Tensor>| {
            table
                .map(|table| as_columns(table, head, buckets.count(), stride))
                .transpose()
        };
        Ok(Self {
            for_queries: columns(for_queries)?,
            for_keys: columns(for_keys)?,
            stride,
            head,
            buckets,
        })
    }

    /// The bucket of each distance from `1 - len` to `len - 1`, query less key.
    fn columns(&self, len: usize) -> Vec<u32> {
        let distance = |at: usize| at as i64 + 1 - len as i64;
        (0..2 * len - 1)
            .map(|at| self.buckets.of(distance(at)) as u32)
            .collect()
    }

    fn of_head<'a>(&self, vectors: &'a Option<Vec<f32>>, head: usize) -> Option<&'a [f32]> {
        let len = self.head * self.stride;
        vectors.as_ref().map(|all| &all[head * len..][..len])
    }
}

/// `[buckets, heads * head]` to `[heads * head, stride]`.
fn as_columns(table: &Tensor, head: usize, buckets: usize, stride: usize) -> Result<Vec<f32>> {
    let what = "the vectors of distances";
    let (rows, width) = table.dims2()?;
    if rows != buckets || !width.is_multiple_of(head) {
        return Err(NnError::Shape {
            what,
            shape: table.dims().to_vec(),
            wanted: format!("[{buckets}, heads × {head}]"),
        }
        .into());
    }
    let numbers = Numbers::of(table, what)?;
    let mut columns = vec![0.0; width * stride];
    for (bucket, row) in numbers.chunks_exact(width).enumerate() {
        for (element, number) in row.iter().enumerate() {
            columns[element * stride + bucket] = *number;
        }
    }
    Ok(columns)
}

/// Tables for the longest text of a batch.
enum Tables {
    Nothing,
    /// `[heads, 2 * longest - 1]`.
    Fixed(Vec<f32>),
    Columns(Vec<u32>),
}

/// Attention of each text over itself: `q`, `k` and `v` are `[tokens, heads * head]` of texts end to end, whose
/// lengths are `lens`; the result is laid out the same.
pub fn attend_mutually(
    [q, k, v]: [&Tensor; 3],
    heads: usize,
    lens: &[usize],
    how: &AttendMutually<'_>,
) -> Result<Tensor> {
    let (tokens, width) = q.dims2()?;
    check([q, k, v], heads, lens)?;
    let (queries, keys, values) = (
        Numbers::of(q, "the queries")?,
        Numbers::of(k, "the keys")?,
        Numbers::of(v, "the values")?,
    );
    let longest = lens.iter().copied().max().unwrap_or(0);
    let tables = match how.distances {
        Some(Distances::Biases(biases)) if longest > 0 => Tables::Fixed(biases.tables(longest)),
        Some(Distances::Vectors(vectors)) if longest > 0 => {
            Tables::Columns(vectors.columns(longest))
        }
        _ => Tables::Nothing,
    };
    let starts: Vec<usize> = lens
        .iter()
        .scan(0, |next, len| Some(std::mem::replace(next, *next + len)))
        .collect();
    let head = width / heads;
    // SAFETY: the texts are all tokens, and every head of each is written.
    #[allow(unsafe_code)]
    let mut out = unsafe { tensors::unwritten(tokens * width) };
    let shared = Shared::new(&mut out);
    let task = |index: usize| {
        let (text, which) = (index / heads, index % heads);
        let (len, from) = (lens[text], starts[text] * width + which * head);
        if len == 0 {
            return;
        }
        let places = places(how, &tables, which, longest, len);
        let write = |token: usize, result: &[f32]| {
            // SAFETY: each pair of token and head belongs to one task, and `out` is borrowed during the call.
            unsafe { shared.part(from + token * width, head) }.copy_from_slice(result);
        };
        scratch::with(scratch_len(len, head, &places), |scratch| {
            dispatch(Mutual {
                queries: &queries[from..],
                keys: &keys[from..],
                values: &values[from..],
                stride: width,
                len,
                key_len: len,
                head,
                scale: how.scale,
                before: how.reach.unwrap_or(len),
                behind: how.reach.unwrap_or(len),
                places,
                scratch,
                out: &write,
            });
        });
    };
    let work: usize = lens.iter().map(|len| len * len * width).sum();
    let tasks = lens.len() * heads;
    if work < WORTH_A_FORK {
        (0..tasks).for_each(task);
    } else {
        pool::run(tasks, &task);
    }
    tensors::tensor(out, &[tokens, width])
}

/// The part of the tables that one head of one text needs.
fn places<'a>(
    how: &AttendMutually<'a>,
    tables: &'a Tables,
    head: usize,
    longest: usize,
    len: usize,
) -> Places<'a> {
    match (tables, how.distances) {
        (Tables::Fixed(numbers), _) => {
            let from = head * (2 * longest - 1) + longest - len;
            Places::Fixed(&numbers[from..][..2 * len - 1])
        }
        (Tables::Columns(columns), Some(Distances::Vectors(vectors))) => Places::Apart(Apart {
            for_queries: vectors.of_head(&vectors.for_queries, head),
            for_keys: vectors.of_head(&vectors.for_keys, head),
            stride: vectors.stride,
            columns: &columns[longest - len..][..2 * len - 1],
        }),
        _ => Places::Nothing,
    }
}

fn check(all: [&Tensor; 3], heads: usize, lens: &[usize]) -> Result<()> {
    let shape = all[0].dims();
    let tokens: usize = lens.iter().sum();
    let fits = |tensor: &Tensor| tensor.dims() == shape;
    if heads > 0
        && shape[0] == tokens
        && shape[1].is_multiple_of(heads)
        && all.into_iter().all(fits)
    {
        return Ok(());
    }
    Err(NnError::Shape {
        what: "the queries, keys or values",
        shape: shape.to_vec(),
        wanted: format!("[{tokens}, a multiple of {heads} heads] for all three"),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::cpu::testing::{assert_close, numbers};

    const HEADS: usize = 3;

    fn tensor(numbers: Vec<f32>, width: usize) -> Tensor {
        let rows = numbers.len() / width;
        Tensor::from_vec(numbers, (rows, width), &Device::Cpu).unwrap()
    }

    /// What a distance adds, in double precision: query, key, head, and the distance of query and key.
    type Added<'a> = dyn Fn(&[f32], &[f32], usize, i64) -> f64 + 'a;

    /// The plain twin: one text, double precision.
    fn reference(
        all: [&[f32]; 3],
        head: usize,
        how: &AttendMutually<'_>,
        added: &Added<'_>,
    ) -> Vec<f32> {
        let width = HEADS * head;
        let len = all[0].len() / width;
        let row = |of: usize, token: usize, h: usize| &all[of][token * width + h * head..][..head];
        let mut out = vec![0.0; all[0].len()];
        for query in 0..len {
            for h in 0..HEADS {
                let q = row(0, query, h);
                let seen = |key: &usize| key.abs_diff(query) <= how.reach.unwrap_or(len);
                let keys: Vec<usize> = (0..len).filter(seen).collect();
                let score = |&key: &usize| {
                    let k = row(1, key, h);
                    dot(q, k) * f64::from(how.scale) + added(q, k, h, query as i64 - key as i64)
                };
                let scores: Vec<f64> = keys.iter().map(score).collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                for element in 0..head {
                    let terms = keys.iter().zip(&weights);
                    let sum: f64 = terms
                        .map(|(&key, weight)| weight * f64::from(row(2, key, h)[element]))
                        .sum();
                    out[query * width + h * head + element] = (sum / total) as f32;
                }
            }
        }
        out
    }

    fn dot(one: &[f32], other: &[f32]) -> f64 {
        let terms = one.iter().zip(other);
        terms.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    }

    /// Computes texts of several lengths together and alone, and compares with the twin.
    fn compare(head: usize, how: &AttendMutually<'_>, added: &Added<'_>) {
        let width = HEADS * head;
        let lens = [1, 24, 7, 0, 61, 2];
        let tokens: usize = lens.iter().sum();
        let all = [1, 2, 3].map(|seed| {
            let numbers = numbers(tokens * width, seed);
            numbers.iter().map(|x| x * 2.0).collect::<Vec<f32>>()
        });
        let tensors = all.clone().map(|numbers| tensor(numbers, width));
        let together = attend_mutually(tensors.each_ref(), HEADS, &lens, how).unwrap();
        let together: Vec<f32> = together.flatten_all().unwrap().to_vec1().unwrap();
        let mut from = 0;
        for len in lens.into_iter().filter(|len| *len > 0) {
            let part = from * width..(from + len) * width;
            let text = all.each_ref().map(|numbers| &numbers[part.clone()]);
            assert_close(
                &together[part.clone()],
                &reference(text, head, how, added),
                2e-5,
            );
            let alone = text.map(|numbers| tensor(numbers.to_vec(), width));
            let alone = attend_mutually(alone.each_ref(), HEADS, &[len], how).unwrap();
            let alone: Vec<f32> = alone.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(alone, together[part], "{len} tokens alone and in company");
            from += len;
        }
    }

    #[test]
    fn plain_and_windowed_attention_equal_the_plain_twin_and_do_not_depend_on_company() {
        for head in [4, 8, 10, 64] {
            for reach in [None, Some(0), Some(5), Some(30)] {
                let how = AttendMutually {
                    scale: 0.3,
                    reach,
                    distances: None,
                };
                compare(head, &how, &|_, _, _, _| 0.0);
            }
        }
    }

    #[test]
    fn biases_of_distances_are_added_to_the_scores() {
        let buckets = Buckets::Halves {
            count: 12,
            longest: 40,
        };
        let table = numbers(12 * HEADS, 9);
        let biases = DistanceBiases::new(table.clone(), HEADS, buckets).unwrap();
        let how = AttendMutually {
            scale: 0.3,
            reach: Some(20),
            distances: Some(Distances::Biases(&biases)),
        };
        compare(8, &how, &|_, _, head, distance| {
            f64::from(table[buckets.of(distance) * HEADS + head])
        });
    }

    #[test]
    fn vectors_of_distances_are_multiplied_with_queries_and_keys() {
        let (head, scale) = (10, 0.2);
        for (count, longest) in [(8, 32), (0, 20)] {
            let buckets = Buckets::Middle { count, longest };
            let [queries, keys] = [5, 6].map(|seed| numbers(buckets.count() * HEADS * head, seed));
            let tables = [&queries, &keys].map(|table| tensor(table.clone(), HEADS * head));
            for (with_queries, with_keys) in [(true, true), (true, false), (false, true)] {
                let vectors = DistanceVectors::new(
                    with_queries.then_some(&tables[0]),
                    with_keys.then_some(&tables[1]),
                    head,
                    buckets,
                );
                let vectors = vectors.unwrap();
                let how = AttendMutually {
                    scale,
                    reach: None,
                    distances: Some(Distances::Vectors(&vectors)),
                };
                compare(head, &how, &|q, k, h, distance| {
                    let at = (buckets.of(distance) * HEADS + h) * head;
                    let of = |on: bool, x: &[f32], table: &[f32]| {
                        if on {
                            dot(x, &table[at..][..head])
                        } else {
                            0.0
                        }
                    };
                    let sum = of(with_queries, q, &queries) + of(with_keys, k, &keys);
                    sum * f64::from(scale)
                });
            }
        }
    }

    /// Values of transformers 4.57: `relative_position_bucket` of MPNet and T5, `make_log_bucket_position` of DeBERTa.
    #[test]
    fn distances_fall_into_the_buckets_of_transformers() {
        let halves = Buckets::Halves {
            count: 32,
            longest: 128,
        };
        let of = |distances: &[i64]| distances.iter().map(|&d| halves.of(d)).collect::<Vec<_>>();
        assert_eq!(
            of(&[0, 1, 7, 8, 12, 64, 127, 500]),
            [0, 1, 7, 8, 9, 14, 15, 15]
        );
        assert_eq!(of(&[-1, -8, -12, -200]), [17, 24, 25, 31]);
        let before = Buckets::Before {
            count: 32,
            longest: 128,
        };
        let of = |distances: &[i64]| distances.iter().map(|&d| before.of(d)).collect::<Vec<_>>();
        assert_eq!(
            of(&[-3, 0, 15, 16, 20, 64, 127, 500]),
            [0, 0, 15, 16, 17, 26, 31, 31]
        );
        let middle = |distances: &[i64]| {
            let buckets = |&d: &i64| super::middle(d, 256, 512);
            distances.iter().map(buckets).collect::<Vec<_>>()
        };
        assert_eq!(
            middle(&[0, 127, 128, 129, 300, -300, 511]),
            [0, 127, 128, 129, 207, -207, 255]
        );
    }

    #[test]
    fn tensors_that_do_not_fit_are_refused() {
        let x = tensor(vec![0.0; 12], 6);
        let how = AttendMutually::default();
        let error = attend_mutually([&x, &x, &x], 4, &[2], &how).unwrap_err();
        assert!(error.to_string().contains("4 heads"), "{error}");
        assert!(attend_mutually([&x, &x, &x], 3, &[1], &how).is_err());
        let biases = DistanceBiases::new(
            vec![0.0; 5],
            3,
            Buckets::Halves {
                count: 2,
                longest: 4,
            },
        );
        assert!(biases.is_err());
    }
}
