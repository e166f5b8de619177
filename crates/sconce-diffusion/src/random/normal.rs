//! Normal numbers of uniform ones: `normal_` of torch for float32 on the CPU (`DistributionTemplates.h`).
//!
//! From 16 numbers on they are made in blocks of 16: eight pairs of uniform numbers, whose partners are eight apart; what
//! is left behind the last whole block is drawn again with the end of that block. Fewer are made one by one in double
//! precision, and one that is left over is kept for the next draw.

use std::f64::consts::PI;

use super::twister::Twister;

/// Numbers of a block.
const BLOCK: usize = 16;

/// `torch.Generator(device="cpu").manual_seed(seed)`.
#[derive(Clone)]
pub struct Generator {
    twister: Twister,
    kept: Option<f64>,
}

impl Generator {
    /// Seeds it.
    pub fn new(seed: u64) -> Self {
        Self {
            twister: Twister::new(seed),
            kept: None,
        }
    }

    /// `torch.randn(len)`, of any shape with so many numbers.
    pub fn normal(&mut self, len: usize) -> Vec<f32> {
        if len < BLOCK {
            return (0..len).map(|_| self.one() as f32).collect();
        }
        let mut numbers: Vec<f32> = (0..len).map(|_| self.uniform()).collect();
        for block in numbers.as_chunks_mut::<BLOCK>().0 {
            transform(block);
        }
        if !len.is_multiple_of(BLOCK) {
            let last = numbers
                .last_chunk_mut::<BLOCK>()
                .expect("one block at least");
            last.fill_with(|| self.uniform());
            transform(last);
        }
        numbers
    }

    /// Between 0 and 1, with 24 bits.
    fn uniform(&mut self) -> f32 {
        (self.twister.bits() & 0x00ff_ffff) as f32 / (1 << 24) as f32
    }

    /// Between 0 and 1, with 53 bits.
    fn long_uniform(&mut self) -> f64 {
        (self.twister.long_bits() & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }

    fn one(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let (turn, length) = (self.long_uniform(), self.long_uniform());
        let radius = (-2.0 * (-length).ln_1p()).sqrt();
        let angle = 2.0 * PI * turn;
        self.kept = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// Box and Muller's transform of pairs.
fn transform(block: &mut [f32; BLOCK]) {
    let (lengths, turns) = block.split_at_mut(BLOCK / 2);
    for (length, turn) in lengths.iter_mut().zip(turns) {
        let radius = (-2.0 * (1.0 - *length).ln()).sqrt();
        let angle = 2.0 * std::f32::consts::PI * *turn;
        let (sine, cosine) = angle.sin_cos();
        (*length, *turn) = (radius * cosine, radius * sine);
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Goldens {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        seed: String,
        draws: Vec<Vec<String>>,
    }

    /// Units in the last place between two numbers, whose order is that of their bits.
    fn apart(one: f32, other: f32) -> u64 {
        let place = |x: f32| {
            let bits = i64::from(x.to_bits() & 0x7fff_ffff);
            if x.is_sign_negative() { -bits } else { bits }
        };
        place(one).abs_diff(place(other))
    }

    #[test]
    fn draws_of_all_lengths_are_those_of_torch() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../models/diffusion/generator.json"
        );
        let goldens: Goldens = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let mut worst = 0;
        for Case { seed, draws } in goldens.cases {
            let mut generator = Generator::new(seed.parse().unwrap());
            for (index, draw) in draws.iter().enumerate() {
                let got = generator.normal(draw.len());
                for (at, (got, bits)) in got.iter().zip(draw).enumerate() {
                    let wanted = f32::from_bits(u32::from_str_radix(bits, 16).unwrap());
                    let apart = apart(*got, wanted);
                    // Where a sine is nearly zero its last places differ: torch's is a polynomial of vectors.
                    assert!(
                        apart <= 2 || (got - wanted).abs() < 2e-7,
                        "seed {seed}, draw {index}, number {at}: {got:e}, not {wanted:e}, {apart} ulp"
                    );
                    worst = worst.max(apart);
                }
            }
        }
        println!("at most {worst} units in the last place");
    }
}
