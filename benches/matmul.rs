//! Matrix products at the sizes of the default model against candle's f32 matmul, with weights that come from memory.
//!
//! `cargo bench --bench matmul [-- WORD..]` runs the sizes whose name contains a word, with so many rows as a word says. Every product cycles through
//! copies of its weights that together exceed the caches, as a decoder's layers do. Medians of interleaved rounds: the
//! machine may be noisy, the ratios are what counts.
#![allow(
    clippy::panic,
    clippy::type_complexity,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs
)]

use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use sconce_nn::weights::{BlockFormat, HostTensor, Matrix, StoredDtype};
use sconce_nn::{Linear, pool};

const ROUNDS: usize = 7;

/// Bytes of all copies of a weight together.
const COLD_BYTES: usize = 160 << 20;

/// Products of a round: at least this many floating-point operations, so that the clock does not matter.
const ROUND_OPERATIONS: usize = 200_000_000;

/// `[in, out]` of SmolLM2-135M: q and o, k and v, gate and up, down, head.
const SIZES: [(usize, usize); 5] = [
    (576, 576),
    (576, 192),
    (576, 1536),
    (1536, 576),
    (576, 49152),
];

const ROWS: [usize; 5] = [1, 4, 8, 32, 512];

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    println!(
        "{} threads; memory reads {:.1} GB/s; medians of {ROUNDS} rounds",
        pool::threads(),
        read_speed()
    );
    println!(
        "{:>16} {:>4}  {:>28} {:>28} {:>28} {:>28} {:>28} {:>28} {:>28}",
        "in x out", "rows", "f32", "f16", "bf16", "bf16 x bf16", "q8_0", "q8_row", "candle f32"
    );
    for (k, n) in SIZES {
        let name = format!("{k}x{n}");
        if words.iter().all(|word| word.parse::<usize>().is_ok())
            || words.iter().any(|word| name.contains(word.as_str()))
        {
            let asked: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
            let rows = ROWS
                .iter()
                .filter(|rows| asked.is_empty() || asked.contains(rows));
            rows.for_each(|&rows| compare(&name, rows, k, n));
        }
    }
}

/// One line: time, weight bytes per second and operations per second of each contender.
fn compare(name: &str, rows: usize, k: usize, n: usize) {
    let x = Tensor::from_vec(numbers(rows * k), (rows, k), &Device::Cpu).expect("lengths fit");
    let contenders = contenders(k, n);
    let operations = 2 * rows * k * n;
    let times: Vec<Vec<f64>> = (0..ROUNDS)
        .map(|_| {
            contenders
                .iter()
                .map(|contender| contender.time(&x, ROUND_OPERATIONS / operations + 1))
                .collect()
        })
        .collect();
    print!("{name:>16} {rows:>4}");
    for (index, contender) in contenders.iter().enumerate() {
        let seconds = median(times.iter().map(|round| round[index]).collect());
        let (bytes, flops) = (
            contender.bytes as f64 / seconds / 1e9,
            operations as f64 / seconds / 1e9,
        );
        print!("  {:>8.1}us {bytes:>5.1}GB {flops:>6.1}GF", seconds * 1e6);
    }
    println!();
}

/// A kind of product with copies of its weight.
struct Contender {
    /// Bytes of the weights.
    bytes: usize,
    products: Vec<Box<dyn Fn(&Tensor) -> Tensor>>,
}

impl Contender {
    /// Seconds for one product.
    fn time(&self, x: &Tensor, at_least: usize) -> f64 {
        let count = at_least.max(self.products.len());
        let began = Instant::now();
        for product in self.products.iter().cycle().take(count) {
            black_box(product(x));
        }
        began.elapsed().as_secs_f64() / count as f64
    }
}

fn contenders(k: usize, n: usize) -> Vec<Contender> {
    let wide = numbers(k * n);
    let halves: Vec<f16> = wide.iter().map(|&w| f16::from_f32(w)).collect();
    let brains: Vec<bf16> = wide.iter().map(|&w| bf16::from_f32(w)).collect();
    let ours = |bytes: usize, make: &dyn Fn() -> Linear| Contender {
        bytes,
        products: (0..copies(bytes)).map(|_| product(make())).collect(),
    };
    let linear = |weight| Linear::new(weight, None, &Device::Cpu).expect("a packed matrix");
    let all = HostTensor::from_slice(&wide, &[n, k]);
    let blocks = |format: BlockFormat| {
        ours(k * n / format.numbers() * format.bytes(), &|| {
            let matrix = Matrix::of(&all, StoredDtype::Quantised(format)).expect("whole blocks");
            Linear::of(matrix, None, &Device::Cpu).expect("a matrix")
        })
    };
    let candle = |_| {
        let weight = Tensor::from_vec(wide.clone(), (n, k), &Device::Cpu).expect("lengths fit");
        let product = move |x: &Tensor| {
            x.matmul(&weight.t().expect("a matrix"))
                .expect("shapes fit")
        };
        Box::new(product) as Box<dyn Fn(&Tensor) -> Tensor>
    };
    vec![
        ours(4 * k * n, &|| linear(all.clone())),
        ours(2 * k * n, &|| {
            linear(HostTensor::from_slice(&halves, &[n, k]))
        }),
        ours(2 * k * n, &|| {
            linear(HostTensor::from_slice(&brains, &[n, k]))
        }),
        ours(2 * k * n, &|| {
            let weight = HostTensor::from_slice(&brains, &[n, k]);
            linear(weight).with_bf16_products()
        }),
        blocks(BlockFormat::Q8_0),
        blocks(BlockFormat::Q8Row),
        Contender {
            bytes: 4 * k * n,
            products: (0..copies(k * n * 4)).map(candle).collect(),
        },
    ]
}

fn product(layer: Linear) -> Box<dyn Fn(&Tensor) -> Tensor> {
    Box::new(move |x: &Tensor| layer.forward(x).expect("shapes fit"))
}

fn copies(bytes: usize) -> usize {
    COLD_BYTES / bytes + 1
}

/// Gigabytes per second of plain reading with all threads.
fn read_speed() -> f64 {
    let words = vec![1u64; COLD_BYTES / 8];
    let part = 1 << 17;
    let read = |_| {
        let began = Instant::now();
        pool::run(words.len() / part, &|task| {
            black_box(
                words[task * part..(task + 1) * part]
                    .iter()
                    .fold(0, |all, word| all ^ word),
            );
        });
        COLD_BYTES as f64 / began.elapsed().as_secs_f64() / 1e9
    };
    median((0..ROUNDS).map(read).collect())
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len)
        .map(|index| ((index * 7919) % 1000) as f32 / 500.0 - 1.0)
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
