//! `Rope`: rotary positions with the pairing of transformers (element `i` with `i + dim / 2`).
//!
//! Angles are computed in f32 in the order of transformers' `modeling_rope_utils.py`, so that logits agree at long
//! positions too, where the last bit of an inverse frequency is worth a hundredth of a turn.

mod frequencies;

use std::sync::OnceLock;

use candle_core::{Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::rotate::{Heads, rotate};
use crate::step::{Step, StepRow};
use crate::tensors::{self, Numbers};
use frequencies::{check, frequencies};

/// Positions whose angles are computed together, when the first of them is used.
const CHUNK: usize = 128;

/// How the frequencies differ from `theta^(-2i / dim)`.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All are divided.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Long wavelengths are divided, short ones kept, with a smooth passage (Llama 3.1).
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Wavelengths beyond the original length over this are divided.
        low_freq_factor: f64,
        /// Wavelengths below the original length over this are kept.
        high_freq_factor: f64,
        /// Length of the context in training, in tokens.
        original_max_len: usize,
    },
    /// Slow pairs are divided, fast ones kept, with a linear passage by the pair's index (Peng et al., 2023).
    Yarn {
        /// The divisor of slow pairs.
        factor: f64,
        /// Pairs that turn more often than this within the original length are kept.
        beta_fast: f64,
        /// Pairs that turn less often than this within the original length are divided.
        beta_slow: f64,
        /// Length of the context in training, in tokens.
        original_max_len: usize,
        /// Whether the passage begins and ends at whole pairs.
        truncate: bool,
    },
    /// Each pair has a divisor of its own, another one in sequences beyond the original length (Ding et al., 2024).
    LongRope {
        /// `[dim / 2]`, for sequences of at most the original length.
        short: Vec<f64>,
        /// `[dim / 2]`, for longer ones.
        long: Vec<f64>,
        /// Length of the context in training, in tokens.
        original_max_len: usize,
    },
}

/// What the angles depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Leading numbers of a head that are rotated; even.
    pub dim: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// Change of the frequencies.
    pub scaling: RopeScaling,
    /// What the rotated numbers are multiplied by, for scalings that flatten attention; usually 1.
    pub amplitude: f64,
    /// Number of positions.
    pub max_len: usize,
}

impl RopeSpec {
    /// The length in tokens beyond which a sequence has other frequencies from its first token on, if there is one.
    pub fn border(&self) -> Option<usize> {
        match self.scaling {
            RopeScaling::LongRope {
                original_max_len, ..
            } if original_max_len < self.max_len => Some(original_max_len),
            _ => None,
        }
    }
}

/// Cosines and sines of all positions.
#[derive(Debug)]
pub struct Rope {
    dim: usize,
    max_len: usize,
    short: Table,
    /// The length beyond which a sequence has other angles, and these.
    long: Option<(usize, Table)>,
}

/// The angles of one set of frequencies.
#[derive(Debug)]
struct Table {
    frequencies: Vec<f32>,
    amplitude: f32,
    /// Cosines `[CHUNK, dim / 2]` and sines of positions `CHUNK * index ..`, once they were wanted.
    chunks: Vec<OnceLock<Angles>>,
}

#[derive(Debug)]
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// Fails when `dim` is odd or a number makes no frequencies.
    pub fn new(spec: &RopeSpec) -> Result<Self> {
        check(spec)?;
        let table = |long| Table::new(frequencies(spec, long), spec);
        Ok(Self {
            dim: spec.dim,
            max_len: spec.max_len,
            short: table(false),
            long: spec.border().map(|border| (border, table(true))),
        })
    }

    /// Rotates the first `dim` numbers of each head of `x` `[tokens, heads, head]` by the positions of the step's tokens.
    pub fn apply(&self, x: &Tensor, step: &Step) -> Result<Tensor> {
        let what = "the input of rotary positions";
        self.check(x, step)?;
        let (_, heads, head) = x.dims3()?;
        let positions = &step.positions;
        let numbers = Numbers::of(x, what)?;
        // SAFETY: every number is written, be it rotated or not.
        #[allow(unsafe_code)]
        let mut out = unsafe { tensors::unwritten(numbers.len()) };
        let sizes = Heads {
            heads,
            head,
            dim: self.dim,
        };
        let tables = self.tables(step);
        rotate(
            &numbers,
            sizes,
            &|token| tables.at(token).angles(positions[token]),
            &mut out,
        );
        tensors::tensor(out, x.dims())
    }

    /// Cosines and sines of each token of the step, `[tokens, dim / 2]` each.
    #[cfg(feature = "cuda")]
    pub(crate) fn angles(&self, step: &Step) -> [Vec<f32>; 2] {
        let tables = self.tables(step);
        let mut angles = [(); 2].map(|()| Vec::with_capacity(step.positions.len() * self.dim / 2));
        for (token, &position) in step.positions.iter().enumerate() {
            let (cos, sin) = tables.at(token).angles(position);
            angles[0].extend_from_slice(cos);
            angles[1].extend_from_slice(sin);
        }
        angles
    }

    /// Pairs of numbers that are rotated.
    #[cfg(feature = "cuda")]
    pub(crate) fn pairs(&self) -> usize {
        self.dim / 2
    }

    /// Fails on a tensor that has other tokens than the step, or on a position beyond the last.
    pub(crate) fn check(&self, x: &Tensor, step: &Step) -> Result<()> {
        let what = "the input of rotary positions";
        let (tokens, _, head) = x.dims3()?;
        let positions = &step.positions;
        if head < self.dim || tokens != positions.len() {
            let wanted = format!("[{}, heads, at least {}]", positions.len(), self.dim);
            return Err(NnError::Shape {
                what,
                shape: x.dims().to_vec(),
                wanted,
            }
            .into());
        }
        self.check_positions(step)
    }

    /// Fails on a position beyond the last.
    pub(crate) fn check_positions(&self, step: &Step) -> Result<()> {
        if let Some(position) = step
            .positions
            .iter()
            .find(|&&position| position as usize >= self.max_len)
        {
            let wanted = format!("below the model's context of {} tokens", self.max_len);
            return Err(NnError::Value {
                what: "a position",
                value: position.to_string(),
                wanted,
            }
            .into());
        }
        Ok(())
    }

    /// The table of each token of the step.
    fn tables(&self, step: &Step) -> Tables<'_> {
        let Some((border, long)) = &self.long else {
            return Tables::Same(&self.short);
        };
        let of_row = |row: &StepRow| {
            let table = if row.known > *border {
                long
            } else {
                &self.short
            };
            std::iter::repeat_n(table, row.q_len)
        };
        Tables::ByToken(step.rows.iter().flat_map(of_row).collect())
    }
}

/// Which table each token of a step uses.
enum Tables<'a> {
    Same(&'a Table),
    ByToken(Vec<&'a Table>),
}

impl<'a> Tables<'a> {
    fn at(&self, token: usize) -> &'a Table {
        match self {
            Self::Same(table) => table,
            Self::ByToken(tables) => tables[token],
        }
    }
}

impl Table {
    fn new(frequencies: Vec<f32>, spec: &RopeSpec) -> Self {
        let chunks = std::iter::repeat_with(OnceLock::new);
        Self {
            frequencies,
            amplitude: spec.amplitude as f32,
            chunks: chunks.take(spec.max_len.div_ceil(CHUNK)).collect(),
        }
    }

    /// Cosines and sines of one position, `[dim / 2]` each.
    fn angles(&self, position: u32) -> (&[f32], &[f32]) {
        let (chunk, offset) = (position as usize / CHUNK, position as usize % CHUNK);
        let angles = self.chunks[chunk]
            .get_or_init(|| Angles::new(&self.frequencies, self.amplitude, chunk * CHUNK));
        let pairs = offset * self.frequencies.len()..(offset + 1) * self.frequencies.len();
        (&angles.cos[pairs.clone()], &angles.sin[pairs])
    }
}

impl Angles {
    fn new(frequencies: &[f32], amplitude: f32, first: usize) -> Self {
        let angles = (first..first + CHUNK)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        // The product is rounded to f32 as in transformers; its cosine is then as exact as f32 can hold.
        let (sin, cos) = angles
            .map(|angle| f64::from(angle).sin_cos())
            .map(|(sin, cos)| (sin as f32 * amplitude, cos as f32 * amplitude))
            .unzip();
        Self { cos, sin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    pub(super) fn spec(dim: usize, scaling: RopeScaling) -> RopeSpec {
        RopeSpec {
            dim,
            theta: 10_000.0,
            scaling,
            amplitude: 1.0,
            max_len: 300,
        }
    }

    /// One row for each position.
    fn at(positions: &[u32]) -> Step {
        let row = |(index, &position): (usize, &u32)| StepRow {
            q_start: index,
            q_len: 1,
            k_len: position as usize + 1,
            known: position as usize + 1,
            blocks: Vec::new(),
        };
        Step {
            positions: positions.to_vec(),
            rows: positions.iter().enumerate().map(row).collect(),
            ..Step::default()
        }
    }

    #[test]
    fn part_of_each_head_is_turned_and_the_rest_is_kept() {
        let rope = Rope::new(&spec(4, RopeScaling::None)).unwrap();
        let x = Tensor::arange(1f32, 25.0, &Device::Cpu)
            .unwrap()
            .reshape((2, 2, 6))
            .unwrap();
        let out = rope
            .apply(&x, &at(&[0, 200]))
            .unwrap()
            .to_vec3::<f32>()
            .unwrap();
        assert_eq!(out[0], x.to_vec3::<f32>().unwrap()[0]);
        for (head, first) in [(0, 13.0f64), (1, 19.0)] {
            for (pair, angle) in [(0usize, 200.0f64), (1, 2.0)] {
                let (a, b) = (first + pair as f64, first + pair as f64 + 2.0);
                let (sin, cos) = angle.sin_cos();
                assert!((f64::from(out[1][head][pair]) - (a * cos - b * sin)).abs() < 1e-5);
                assert!((f64::from(out[1][head][pair + 2]) - (b * cos + a * sin)).abs() < 1e-5);
            }
            assert_eq!(f64::from(out[1][head][5]), first + 5.0);
        }
    }

    #[test]
    fn whole_vectors_are_turned_like_single_numbers() {
        let rope = Rope::new(&spec(40, RopeScaling::Linear { factor: 2.0 })).unwrap();
        let x: Vec<f32> = (0..3 * 48).map(|n| (n as f32 * 0.7).sin()).collect();
        let out = rope
            .apply(
                &Tensor::from_vec(x.clone(), (1, 3, 48), &Device::Cpu).unwrap(),
                &at(&[131]),
            )
            .unwrap();
        let out = out.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for head in 0..3 {
            for pair in 0..20 {
                let (sin, cos) = (131.0 * f64::from(rope.short.frequencies[pair])).sin_cos();
                let (a, b) = (
                    f64::from(x[head * 48 + pair]),
                    f64::from(x[head * 48 + pair + 20]),
                );
                assert!((f64::from(out[head * 48 + pair]) - (a * cos - b * sin)).abs() < 1e-5);
                assert!((f64::from(out[head * 48 + pair + 20]) - (b * cos + a * sin)).abs() < 1e-5);
            }
            assert_eq!(
                out[head * 48 + 40..head * 48 + 48],
                x[head * 48 + 40..head * 48 + 48]
            );
        }
    }

    #[test]
    fn a_sequence_beyond_the_border_has_other_angles_from_its_first_token_on() {
        let long = RopeScaling::LongRope {
            short: vec![1.0, 2.0],
            long: vec![4.0, 8.0],
            original_max_len: 100,
        };
        let rope = Rope::new(&RopeSpec {
            amplitude: 2.0,
            ..spec(4, long)
        })
        .unwrap();
        let x = Tensor::new(&[[[1f32, 1.0, 0.0, 0.0]]], &Device::Cpu).unwrap();
        for (known, divisors) in [(100, [1.0, 2.0]), (101, [4.0, 8.0])] {
            let mut step = at(&[40]);
            step.rows[0].known = known;
            let out = rope.apply(&x, &step).unwrap().flatten_all().unwrap();
            let out = out.to_vec1::<f32>().unwrap();
            for (pair, angle) in [(0, 40.0 / divisors[0]), (1, 0.4 / divisors[1])] {
                assert!((f64::from(out[pair]) - 2.0 * f64::cos(angle)).abs() < 1e-5);
                assert!((f64::from(out[pair + 2]) - 2.0 * f64::sin(angle)).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn impossible_settings_and_positions_are_errors() {
        assert!(
            Rope::new(&spec(3, RopeScaling::None))
                .unwrap_err()
                .to_string()
                .contains("3")
        );
        assert!(Rope::new(&spec(4, RopeScaling::Linear { factor: 0.0 })).is_err());
        let rope = Rope::new(&spec(4, RopeScaling::None)).unwrap();
        let x = Tensor::zeros((1, 1, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(rope.apply(&x, &at(&[299])).is_ok());
        assert!(
            rope.apply(&x, &at(&[300]))
                .unwrap_err()
                .to_string()
                .contains("300")
        );
        assert!(rope.apply(&x, &at(&[1, 2])).is_err());
    }
}
