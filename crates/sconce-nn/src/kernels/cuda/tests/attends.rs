//! Attention over the cache, and what is written there, against the plain twin of `attend`.

use super::{Input, TYPES, Type, floats};
use crate::attention::reference::Sequence;
use crate::attention::{Alibi, AlibiBias, Attend};
use crate::kernels::cpu::testing::numbers;
use crate::step::BLOCK;

#[derive(Clone, Copy)]
struct Heads {
    heads: usize,
    kv_heads: usize,
    head: usize,
    /// Query heads that a block takes at once.
    tile: usize,
}

/// Two sequences of which all tokens are in the cache, in blocks without order.
struct Two {
    sizes: Heads,
    dtype: Type,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    lens: [usize; 2],
}

const BLOCKS: usize = 48;

impl Two {
    fn new(sizes: Heads, dtype: Type, lens: [usize; 2]) -> Self {
        let tokens = lens[0] + lens[1];
        let of = |heads: usize, seed| {
            let numbers = numbers(tokens * heads * sizes.head, seed);
            let numbers: Vec<f32> = numbers.iter().map(|number| 2.0 * number).collect();
            dtype.rounded(&numbers)
        };
        Self {
            q: of(sizes.heads, 1),
            k: of(sizes.kv_heads, 2),
            v: of(sizes.kv_heads, 3),
            sizes,
            dtype,
            lens,
        }
    }

    /// Results of the asked tokens, as bits.
    fn attend(&self, how: &Attend, asked: &[u32], seed: u32) -> Option<Vec<u32>> {
        Some(self.compute(how, asked, 16, seed)?.swap_remove(1))
    }

    /// The same by tensor cores, in tiles of so many.
    fn prompt(&self, how: &Attend, asked: &[u32], tile: usize, seed: u32) -> Option<Vec<u32>> {
        Some(self.compute(how, asked, tile, seed)?.swap_remove(2))
    }

    fn compute(
        &self,
        how: &Attend,
        asked: &[u32],
        of_prompt: usize,
        seed: u32,
    ) -> Option<Vec<Vec<u32>>> {
        let Heads {
            heads,
            kv_heads,
            head,
            tile,
        } = self.sizes;
        let most = BLOCKS / 2;
        let tables: Vec<u32> = (0..BLOCKS as u32).map(|index| index * 29 % 48).collect();
        let places: Vec<(u32, u32)> = (0..2)
            .flat_map(|row| {
                (0..self.lens[row as usize] as u32).map(move |position| (row, position))
            })
            .collect();
        let slot = |&(row, position): &(u32, u32)| {
            let block = tables[row as usize * most + position as usize / BLOCK];
            block * BLOCK as u32 + position % BLOCK as u32
        };
        let (slopes, rounded, factor) = match &how.alibi {
            None => (&[][..], 0.0, 0.0),
            Some(Alibi { slopes, bias }) => match bias {
                AlibiBias::Distance => (&**slopes, 0.0, 0.0),
                AlibiBias::Rounded { factor } => (&**slopes, 1.0, *factor),
            },
        };
        let window = how.window.unwrap_or(0) as f32;
        let sizes =
            [heads, kv_heads, head, 0, BLOCKS, most, tile, of_prompt].map(|size| size as u32);
        let input = Input::default()
            .indices(&sizes)
            .numbers(&[
                how.scale,
                window,
                how.softcap.unwrap_or(0.0),
                rounded,
                factor,
            ])
            .numbers(slopes)
            .numbers(&self.q)
            .numbers(&self.k)
            .numbers(&self.v)
            .numbers(&[])
            .numbers(&[])
            .indices(&places.iter().map(|place| place.1).collect::<Vec<_>>())
            .indices(&places.iter().map(slot).collect::<Vec<_>>())
            .indices(&places.iter().map(|place| place.0).collect::<Vec<_>>())
            .indices(&tables)
            .indices(asked);
        input.run("step", self.dtype, seed)
    }

    /// What the plain twin makes of the asked tokens.
    fn reference(&self, how: &Attend, asked: &[u32]) -> Vec<f32> {
        let Heads {
            heads,
            kv_heads,
            head,
            ..
        } = self.sizes;
        let of = |token: usize| {
            let (begin, end) = match token < self.lens[0] {
                true => (0, self.lens[0]),
                false => (self.lens[0], self.lens[0] + self.lens[1]),
            };
            let sequence = Sequence {
                q: &self.q[begin * heads * head..end * heads * head],
                k: &self.k[begin * kv_heads * head..end * kv_heads * head],
                v: &self.v[begin * kv_heads * head..end * kv_heads * head],
                heads,
                kv_heads,
                head,
            };
            let one = |head| sequence.attend_one(token - begin, head, how);
            (0..heads).flat_map(one).collect::<Vec<_>>()
        };
        asked.iter().flat_map(|&token| of(token as usize)).collect()
    }
}

const SIZES: [Heads; 5] = [
    Heads {
        heads: 2,
        kv_heads: 2,
        head: 64,
        tile: 1,
    },
    Heads {
        heads: 6,
        kv_heads: 1,
        head: 64,
        tile: 4,
    },
    Heads {
        heads: 4,
        kv_heads: 2,
        head: 80,
        tile: 2,
    },
    Heads {
        heads: 16,
        kv_heads: 2,
        head: 128,
        tile: 8,
    },
    Heads {
        heads: 2,
        kv_heads: 1,
        head: 256,
        tile: 2,
    },
];

/// Borders of blocks and splits, and what lies between.
fn some_of(lens: [usize; 2]) -> Vec<u32> {
    let first = [0, 31, 32, 95, 511, 512, lens[0] - 1];
    let second = [0, lens[1] - 1].map(|position| lens[0] + position);
    first
        .into_iter()
        .chain(second)
        .map(|token| token as u32)
        .collect()
}

fn ways(heads: usize) -> [Attend; 4] {
    let slopes: Vec<f32> = (1..=heads).map(|head| 0.5f32.powi(head as i32)).collect();
    let plain = Attend {
        scale: 0.11,
        ..Attend::default()
    };
    let alibi = |bias| {
        Some(Alibi {
            slopes: slopes.clone(),
            bias,
        })
    };
    [
        plain.clone(),
        Attend {
            window: Some(40),
            softcap: Some(1.5),
            ..plain.clone()
        },
        Attend {
            alibi: alibi(AlibiBias::Distance),
            window: Some(520),
            ..plain.clone()
        },
        Attend {
            alibi: alibi(AlibiBias::Rounded { factor: 0.3 }),
            ..plain
        },
    ]
}

#[test]
fn attention_over_scattered_blocks_equals_the_plain_twin() {
    let lens = [530, 70];
    let asked = some_of(lens);
    for sizes in SIZES {
        for dtype in TYPES {
            let two = Two::new(sizes, dtype, lens);
            // Of a shorter type the numbers are read otherwise, all else is alike.
            let ways = ways(sizes.heads);
            let ways = &ways[..if dtype == Type::F32 { 4 } else { 1 }];
            for how in ways {
                let Some(got) = two.attend(how, &asked, 1) else {
                    return;
                };
                let want = two.reference(how, &asked);
                dtype.close(&floats(&got), &want, &format!("{how:?}"));
            }
        }
    }
}

#[test]
fn the_bits_of_a_token_depend_neither_on_its_company_nor_on_the_order_of_threads() {
    let lens = [530, 70];
    let (asked, sizes) = (some_of(lens), SIZES[2]);
    let two = Two::new(sizes, Type::Bf16, lens);
    for how in ways(sizes.heads) {
        let Some(together) = two.attend(&how, &asked, 1) else {
            return;
        };
        assert_eq!(two.attend(&how, &asked, 2).unwrap(), together);
        let width = sizes.heads * sizes.head;
        for (&token, together) in asked.iter().zip(together.chunks_exact(width)) {
            assert_eq!(two.attend(&how, &[token], 3).unwrap(), together, "{token}");
        }
    }
}

/// Beginnings and ends of sequences, and what lies around the borders of blocks.
fn runs_of(lens: [usize; 2]) -> Vec<u32> {
    let runs = [0..19, 30..35, 500..lens[0], lens[0]..lens[0] + lens[1]];
    let tokens = runs.into_iter().flatten();
    tokens.map(|token| token as u32).collect()
}

#[test]
fn prompts_on_tensor_cores_equal_the_plain_twin() {
    let lens = [530, 37];
    let asked = runs_of(lens);
    for sizes in SIZES {
        for dtype in [Type::F16, Type::Bf16] {
            let two = Two::new(sizes, dtype, lens);
            let ways = ways(sizes.heads);
            for how in &ways[..if sizes.head == 80 { 4 } else { 1 }] {
                let Some(got) = two.prompt(how, &asked, 16, 1) else {
                    return;
                };
                let want = two.reference(how, &asked);
                dtype.close(&floats(&got), &want, &format!("tiles, {how:?}"));
            }
        }
    }
}

#[test]
fn the_bits_of_a_token_of_a_prompt_depend_on_no_other_of_its_tile() {
    let lens = [530, 37];
    let (asked, sizes) = (runs_of(lens), SIZES[2]);
    let two = Two::new(sizes, Type::Bf16, lens);
    for how in ways(sizes.heads) {
        let Some(together) = two.prompt(&how, &asked, 16, 1) else {
            return;
        };
        for tile in [1, 5, 16] {
            assert_eq!(
                two.prompt(&how, &asked, tile, 2).unwrap(),
                together,
                "{tile}"
            );
        }
        let width = sizes.heads * sizes.head;
        let later = two.prompt(&how, &asked[7..], 16, 3).unwrap();
        assert_eq!(later, together[7 * width..]);
    }
}

#[test]
fn queries_are_rotated_in_place_and_keys_as_they_are() {
    let (heads, head, dim, tokens) = (2, 64, 24, 3);
    let angle = |index: usize| 0.3 + index as f32 * 0.7;
    let cos: Vec<f32> = (0..40 * dim / 2).map(|index| angle(index).cos()).collect();
    let sin: Vec<f32> = (0..40 * dim / 2).map(|index| angle(index).sin()).collect();
    let positions = [0u32, 7, 33];
    for dtype in TYPES {
        let x = dtype.rounded(&numbers(tokens * heads * head, 5));
        let mut turned = x.clone();
        for (index, number) in turned.iter_mut().enumerate() {
            let (row, element) = (index / head * head, index % head);
            let angles = positions[index / (heads * head)] as usize * dim / 2;
            let at = |element: usize| f64::from(x[row + element]);
            let of = |table: &[f32], pair: usize| f64::from(table[angles + pair]);
            let half = dim / 2;
            if element < half {
                *number = (at(element) * of(&cos, element) - at(element + half) * of(&sin, element))
                    as f32;
            } else if element < dim {
                let pair = element - half;
                *number = (at(element) * of(&cos, pair) + at(pair) * of(&sin, pair)) as f32;
            }
        }
        // Queries and keys of the same numbers, each token in a row of its own that sees only itself: the scores of a
        // softmax over one key say nothing, so values are told apart by what comes out, keys in the test below.
        let sizes = [heads, heads, head, dim, BLOCKS, 2, 1, 1].map(|size| size as u32);
        let input = Input::default()
            .indices(&sizes)
            .numbers(&[1.0, 1.0, 0.0, 0.0, 0.0])
            .numbers(&[])
            .numbers(&x)
            .numbers(&x)
            .numbers(&x)
            .numbers(&cos)
            .numbers(&sin)
            .indices(&positions)
            .indices(&[0, 7, 3 * 32 + 1])
            .indices(&[0, 0, 0])
            .indices(&[0, 3])
            .indices(&[0, 1, 2]);
        let Some(made) = input.run("step", dtype, 4) else {
            return;
        };
        dtype.close(&floats(&made[0]), &turned, "rotated queries");
        dtype.close(&floats(&made[1]), &x, "values of the only key");
    }
}

#[test]
fn keys_are_rotated_as_queries_are() {
    // Two tokens with the same content at positions 0 and 1: the score of a query with its own key is the length of
    // both, whatever the rotation, and with the other's it is less by the angle.
    let (head, dim) = (64, 64);
    let x = numbers(head, 6);
    let (cos, sin) = ([1.0f32, 0.6], [0.0f32, 0.8]);
    let table = |pair: [f32; 2]| {
        pair.iter()
            .flat_map(|&number| vec![number; dim / 2])
            .collect::<Vec<_>>()
    };
    let (k, v) = (
        [x.clone(), x.clone()].concat(),
        [vec![0.0; head], vec![1.0; head]].concat(),
    );
    let input = Input::default()
        .indices(&[1, 1, head as u32, dim as u32, BLOCKS as u32, 1, 1, 1])
        .numbers(&[1.0, 0.0, 0.0, 0.0, 0.0])
        .numbers(&[])
        .numbers(&k)
        .numbers(&k)
        .numbers(&v)
        .numbers(&table(cos))
        .numbers(&table(sin))
        .indices(&[0, 1])
        .indices(&[64, 65])
        .indices(&[0, 0])
        .indices(&[2])
        .indices(&[1]);
    let Some(made) = input.run("step", Type::F32, 5) else {
        return;
    };
    let length: f32 = x.iter().map(|number| number * number).sum();
    let want = 1.0 / (1.0 + (0.6 * length - length).exp());
    Type::F32.close(&floats(&made[1]), &vec![want; head], "weights of two keys");
}
