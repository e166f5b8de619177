//! Tests of attention: against the plain twin, and bit by bit between different cuts of the same sequences.

use candle_core::{DType, Device, Tensor};

use super::reference::Sequence;
use super::*;
use crate::cache::{KvCache, KvDtype, KvShape};
use crate::kernels::cpu::pool;
use crate::kernels::cpu::testing::{assert_close, numbers};
use crate::step::{BLOCK, StepRow};

#[derive(Clone, Copy)]
struct Dims {
    heads: usize,
    kv_heads: usize,
    head: usize,
}

/// A sequence with its whole input and where its blocks are.
struct Known {
    dims: Dims,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    blocks: Vec<u32>,
}

impl Known {
    fn new(dims: Dims, len: usize, seed: u64, blocks: impl Iterator<Item = u32>) -> Self {
        let of = |heads: usize, seed| {
            numbers(len * heads * dims.head, seed)
                .iter()
                .map(|x| x * 3.0)
                .collect()
        };
        let (q, k, v) = (
            of(dims.heads, seed),
            of(dims.kv_heads, seed + 100),
            of(dims.kv_heads, seed + 200),
        );
        Self {
            dims,
            q,
            k,
            v,
            blocks: blocks.take(len.div_ceil(BLOCK)).collect(),
        }
    }

    /// Keys, values and scaled queries as bf16 has them.
    fn round(&mut self) {
        for number in self.k.iter_mut().chain(&mut self.v) {
            *number = bf16::from_f32(*number).to_f32();
        }
        for number in &mut self.q {
            *number = bf16::from_f32(*number * SCALE).to_f32() / SCALE;
        }
    }

    fn len(&self) -> usize {
        self.q.len() / (self.dims.heads * self.dims.head)
    }

    fn reference(&self, how: &Attend) -> Vec<f32> {
        let Dims {
            heads,
            kv_heads,
            head,
        } = self.dims;
        Sequence {
            q: &self.q,
            k: &self.k,
            v: &self.v,
            heads,
            kv_heads,
            head,
        }
        .attend(how)
    }
}

const SCALE: f32 = 0.3;

const DTYPES: [KvDtype; 2] = [KvDtype::F32, KvDtype::BF16];

fn cache(dims: Dims, blocks: usize, dtype: KvDtype) -> KvCache {
    let shape = KvShape {
        layers: 1,
        kv_heads: dims.kv_heads,
        head_dim: dims.head,
        dtype,
    };
    let mut cache = KvCache::new(shape, blocks, &Device::Cpu).unwrap();
    // What an earlier sequence left behind must never matter: no number, in either type.
    let layer = cache.layer(0);
    let nothing = f32::from_bits(0xffff_ffff);
    layer.keys.numbers_mut::<f32>().fill(nothing);
    layer.values.numbers_mut::<f32>().fill(nothing);
    cache
}

/// One step with the tokens `from..to` of each sequence; results per sequence.
fn step(cache: &mut KvCache, parts: &[(&Known, usize, usize)], how: &Attend) -> Vec<Vec<f32>> {
    let dims = parts[0].0.dims;
    let mut step = Step::default();
    let [mut q, mut k, mut v] = [const { Vec::<f32>::new() }; 3];
    for &(known, from, to) in parts {
        let (q_start, wide, narrow) = (
            step.slots.len(),
            dims.heads * dims.head,
            dims.kv_heads * dims.head,
        );
        step.rows.push(StepRow {
            q_start,
            q_len: to - from,
            k_len: to,
            known: to,
            blocks: known.blocks.clone(),
        });
        for position in from..to {
            step.positions.push(position as u32);
            step.slots
                .push(known.blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32);
        }
        q.extend(&known.q[from * wide..to * wide]);
        k.extend(&known.k[from * narrow..to * narrow]);
        v.extend(&known.v[from * narrow..to * narrow]);
    }
    let tokens = step.slots.len();
    let tensor = |numbers, heads| {
        Tensor::from_vec(numbers, (tokens, heads, dims.head), &Device::Cpu).unwrap()
    };
    let (q, k, v) = (
        tensor(q, dims.heads),
        tensor(k, dims.kv_heads),
        tensor(v, dims.kv_heads),
    );
    let out = attend(&q, &k, &v, cache.layer(0), &step, how)
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    step.rows
        .iter()
        .map(|row| out[row.q_start..row.q_start + row.q_len].concat())
        .collect()
}

/// Numbers for eight buckets, which all distances from 20 on share.
fn look_back(heads: usize) -> LookBack {
    let buckets = Buckets::Before {
        count: 8,
        longest: 20,
    };
    let biases = DistanceBiases::new(numbers(8 * heads, 5), heads, buckets).unwrap();
    LookBack::new(&biases, 20)
}

fn ways(heads: usize) -> Vec<Attend> {
    let plain = Attend {
        scale: SCALE,
        ..Attend::default()
    };
    let alibi = |bias| {
        let slopes = (0..heads).map(|head| 0.7f32.powi(head as i32 + 1));
        Some(Alibi {
            slopes: slopes.collect(),
            bias,
        })
    };
    vec![
        Attend {
            window: Some(1),
            ..plain.clone()
        },
        Attend {
            window: Some(40),
            ..plain.clone()
        },
        Attend {
            softcap: Some(2.0),
            ..plain.clone()
        },
        Attend {
            alibi: alibi(AlibiBias::Distance),
            ..plain.clone()
        },
        Attend {
            alibi: alibi(AlibiBias::Rounded { factor: 0.3 }),
            ..plain.clone()
        },
        Attend {
            look_back: Some(look_back(heads)),
            ..plain.clone()
        },
        plain,
    ]
}

fn ways_and_dtypes(heads: usize) -> impl Iterator<Item = (Attend, KvDtype)> {
    let ways = ways(heads).into_iter();
    ways.flat_map(|how| DTYPES.map(|dtype| (how.clone(), dtype)))
}

#[test]
fn every_way_and_shape_equals_the_plain_twin() {
    for (heads, kv_heads, head) in [(1, 1, 1), (9, 3, 64), (4, 4, 20), (8, 1, 7), (2, 1, 80)] {
        let dims = Dims {
            heads,
            kv_heads,
            head,
        };
        for (how, dtype) in ways_and_dtypes(heads) {
            let mut long = Known::new(dims, 101, 1, [7u32, 2, 5, 0].into_iter());
            let mut short = Known::new(dims, 33, 2, [3u32, 6].into_iter());
            let tolerance = match dtype {
                KvDtype::F32 => 2e-5,
                // The weights of values are rounded where the machine multiplies bf16 numbers.
                KvDtype::BF16 | KvDtype::F16 => 1e-2,
            };
            if dtype == KvDtype::BF16 {
                long.round();
                short.round();
            }
            let got = step(
                &mut cache(dims, 8, dtype),
                &[(&long, 0, 101), (&short, 0, 33)],
                &how,
            );
            assert_close(&got[0], &long.reference(&how), tolerance);
            assert_close(&got[1], &short.reference(&how), tolerance);
        }
    }
}

#[test]
fn whole_chunked_and_token_by_token_have_the_same_bits_in_any_company_on_any_threads() {
    let dims = Dims {
        heads: 9,
        kv_heads: 3,
        head: 20,
    };
    let long = Known::new(dims, 140, 1, 0..);
    let other = Known::new(dims, 90, 2, 10..);
    for (how, dtype) in ways_and_dtypes(dims.heads) {
        let whole = {
            let _turn = pool::turn(1);
            step(&mut cache(dims, 16, dtype), &[(&long, 0, long.len())], &how).remove(0)
        };
        for (threads, chunk) in [(2, 1), (3, 7), (2, 32), (2, 50), (7, 139)] {
            let _turn = pool::turn(threads);
            let mut cache = cache(dims, 16, dtype);
            let mut pieces = Vec::new();
            for from in (0..long.len()).step_by(chunk) {
                let to = long.len().min(from + chunk);
                let company = (
                    from % other.len(),
                    (from % other.len() + 1 + chunk / 2).min(other.len()),
                );
                let mut parts = vec![(&long, from, to)];
                // A second sequence that is computed again and again, so that rows come and go.
                if from % 2 == 1 {
                    parts.insert(0, (&other, 0, company.1));
                }
                let mine = parts.len() - 1;
                pieces.extend(step(&mut cache, &parts, &how).remove(mine));
            }
            assert!(pieces == whole, "chunks of {chunk} on {threads} threads");
        }
    }
}

/// Positions 33 and 34 of a sequence in these blocks.
fn two_tokens(blocks: Vec<u32>) -> Step {
    Step {
        positions: vec![33, 34],
        slots: vec![33, 34],
        rows: vec![StepRow {
            q_start: 0,
            q_len: 2,
            k_len: 35,
            known: 35,
            blocks,
        }],
        ..Step::default()
    }
}

#[test]
fn contradictions_are_errors_and_leave_the_cache_alone() {
    let dims = Dims {
        heads: 2,
        kv_heads: 1,
        head: 4,
    };
    let good = two_tokens(Known::new(dims, 40, 1, 0..).blocks);
    let how = Attend {
        scale: 1.0,
        ..Attend::default()
    };
    let mut cache = cache(dims, 2, KvDtype::F32);
    let zeros = |heads: usize| Tensor::zeros((2, heads, 4), DType::F32, &Device::Cpu).unwrap();
    let mut refuse = |q: usize, k: usize, how: &Attend, change: &dyn Fn(&mut Step), word: &str| {
        let mut step = good.clone();
        change(&mut step);
        let error = attend(&zeros(q), &zeros(k), &zeros(1), cache.layer(0), &step, how)
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    };
    refuse(
        2,
        1,
        &how,
        &|step| step.slots[1] = 40,
        "position 34 in slot 40",
    );
    refuse(2, 1, &how, &|step| step.positions[0] = 3, "position 3");
    refuse(
        2,
        1,
        &how,
        &|step| step.rows[0].blocks = vec![0],
        "1 blocks for 35 tokens, 2 are needed",
    );
    refuse(
        2,
        1,
        &how,
        &|step| step.rows[0].blocks[1] = 2,
        "block 2 of a cache of 2",
    );
    refuse(
        2,
        1,
        &how,
        &|step| (step.rows[0].q_len, step.rows[0].k_len) = (1, 34),
        "rows have 1 tokens, tensors 2",
    );
    refuse(
        2,
        1,
        &how,
        &|step| step.rows[0].q_len = 3,
        "ends at token 3 of 2",
    );
    refuse(2, 1, &how, &|step| step.rows[0].k_len = 1, "row 0");
    refuse(
        2,
        1,
        &how,
        &|step| step.slots.clear(),
        "[0, 2] for 2 tokens",
    );
    refuse(2, 3, &how, &|_| {}, "the keys has shape [2, 3, 4]");
    refuse(0, 1, &how, &|_| {}, "the queries");
    refuse(
        2,
        1,
        &Attend {
            window: Some(0),
            ..how.clone()
        },
        &|_| {},
        "window",
    );
    refuse(
        2,
        1,
        &Attend {
            alibi: Some(Alibi {
                slopes: vec![1.0],
                bias: AlibiBias::Distance,
            }),
            ..how.clone()
        },
        &|_| {},
        "slopes is 1",
    );
    let keys = cache.layer(0).keys.numbers::<f32>();
    assert!(keys.iter().all(|key| key.is_nan()));
}

/// What is stored for one sequence is what its last token sees in plain attention, whoever is beside it.
#[test]
fn stored_keys_are_seen_whole_and_blocks_can_be_copied() {
    let dims = Dims {
        heads: 3,
        kv_heads: 3,
        head: 7,
    };
    let how = Attend {
        scale: SCALE,
        ..Attend::default()
    };
    for dtype in DTYPES {
        let mut long = Known::new(dims, 70, 1, [4u32, 0, 2].into_iter());
        let mut short = Known::new(dims, 5, 2, [3u32].into_iter());
        if dtype == KvDtype::BF16 {
            long.round();
            short.round();
        }
        let mut cache = cache(dims, 6, dtype);
        let mut step = Step::default();
        let width = dims.heads * dims.head;
        let mut queries = Vec::new();
        for (index, known) in [&long, &short].into_iter().enumerate() {
            let slots: Vec<u32> = (0..known.len())
                .map(|at| known.blocks[at / BLOCK] * BLOCK as u32 + (at % BLOCK) as u32)
                .collect();
            let [k, v] = [&known.k, &known.v].map(|numbers| {
                Tensor::from_vec(numbers.clone(), (known.len(), width), &Device::Cpu).unwrap()
            });
            store(&k, &v, cache.layer(0), &slots).unwrap();
            step.rows.push(StepRow {
                q_start: index,
                q_len: 1,
                k_len: known.len(),
                known: known.len(),
                blocks: known.blocks.clone(),
            });
            queries.extend_from_slice(&known.q[known.q.len() - width..]);
        }
        let q = Tensor::from_vec(queries, (2, width), &Device::Cpu).unwrap();
        let got = attend_stored(&q, cache.layer(0), &step, &how).unwrap();
        let got = got.to_vec2::<f32>().unwrap();
        let limit = if dtype == KvDtype::F32 { 2e-5 } else { 2e-2 };
        for (got, known) in got.iter().zip([&long, &short]) {
            let whole = known.reference(&how);
            assert_close(got, &whole[whole.len() - width..], limit);
        }
        let alone = Step {
            rows: vec![StepRow {
                q_start: 0,
                ..step.rows[1].clone()
            }],
            ..Step::default()
        };
        cache.copy_block(3, 5);
        for block in [3, 5] {
            let mut alone = alone.clone();
            alone.rows[0].blocks = vec![block];
            let q = q.narrow(0, 1, 1).unwrap();
            let again = attend_stored(&q, cache.layer(0), &alone, &how).unwrap();
            assert_eq!(again.to_vec2::<f32>().unwrap()[0], got[1]);
        }
        step.rows[1].blocks = vec![6];
        let error = attend_stored(&q, cache.layer(0), &step, &how).unwrap_err();
        assert!(error.to_string().contains("block 6"), "{error}");
        let zeros = Tensor::zeros((1, width), DType::F32, &Device::Cpu).unwrap();
        let error = store(&zeros, &zeros, cache.layer(0), &[6 * BLOCK as u32]).unwrap_err();
        assert!(
            error.to_string().contains("slot 192 of a cache of 192"),
            "{error}"
        );
    }
}
