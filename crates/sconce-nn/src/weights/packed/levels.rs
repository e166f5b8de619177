//! The integers of one packed matrix, and the numbers they stand for: `scale * (level - zero)`, scale and zero of the
//! input's group.

use half::f16;

use crate::weights::block_format::BlockFormat;
use crate::weights::dtype::StoredDtype;

/// Numbers in a block.
const BLOCK: usize = super::BLOCK;

/// Where AWQ puts each of eight neighbouring outputs into a word, counted in fields of 4 bits.
const AWQ_FIELDS: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// What shares a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Neighbouring outputs of one input, in AWQ's order.
    Outputs,
    /// Neighbouring inputs of one output.
    Inputs,
}

pub(super) struct Levels<'a> {
    pub(super) words: &'a [i32],
    /// Neighbouring outputs share a word, in AWQ's order or plainly.
    pub(super) zeros: &'a [i32],
    /// For each group, of each output.
    pub(super) scales: &'a [f32],
    /// The group of each input, where that is written down.
    pub(super) groups: Option<&'a [i32]>,
    pub(super) order: Order,
    pub(super) bits: usize,
    /// Whether zeros are stored less one.
    pub(super) less_one: bool,
    pub(super) outputs: usize,
    /// Inputs of a group, where they are in order.
    pub(super) group: usize,
}

/// Whether input `i` is in group `i / group`.
pub(super) fn in_order(groups: &[i32], group: usize) -> bool {
    let wanted = |(input, &found): (usize, &i32)| usize::try_from(found) == Ok(input / group);
    groups.iter().enumerate().all(wanted)
}

impl Levels<'_> {
    /// Says what in the values contradicts the shapes, or the type that they are to be unpacked to.
    pub(super) fn check(&self, inputs: usize, dtype: StoredDtype) -> Result<(), String> {
        let count = inputs.div_ceil(self.group);
        if let Some(groups) = self.groups {
            if groups.len() != inputs {
                return Err(format!(
                    "g_idx has {} entries for {inputs} inputs",
                    groups.len()
                ));
            }
            let bad = groups
                .iter()
                .find(|&&group| usize::try_from(group).map_or(true, |group| group >= count));
            if let Some(bad) = bad {
                return Err(format!("g_idx names group {bad} of {count}"));
            }
            if dtype != StoredDtype::F16 && !in_order(groups, self.group) {
                return Err(
                    "g_idx is not in order, though desc_act in config.json's quantization_config is false".to_owned(),
                );
            }
        }
        let middle = 1 << (self.bits - 1);
        let symmetric = matches!(
            dtype,
            StoredDtype::Quantised(BlockFormat::Q4_0 | BlockFormat::Q8_0)
        );
        if symmetric {
            for group in 0..count {
                let zero = (0..self.outputs)
                    .map(|output| self.zero(group, output))
                    .find(|&zero| zero != middle);
                if let Some(zero) = zero {
                    return Err(format!(
                        "a zero is {zero}, not {middle}, though sym in config.json's quantization_config is true"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Field `at` of a word.
    fn field(&self, word: i32, at: usize) -> i32 {
        (word >> (at * self.bits)) & ((1 << self.bits) - 1)
    }

    fn level(&self, input: usize, output: usize) -> i32 {
        let per_word = 32 / self.bits;
        match self.order {
            Order::Inputs => {
                let word = self.words[input / per_word * self.outputs + output];
                self.field(word, input % per_word)
            }
            Order::Outputs => {
                let word = self.words[input * (self.outputs / per_word) + output / per_word];
                self.field(word, AWQ_FIELDS[output % per_word])
            }
        }
    }

    fn zero(&self, group: usize, output: usize) -> i32 {
        let per_word = 32 / self.bits;
        let word = self.zeros[group * (self.outputs / per_word) + output / per_word];
        let field = match self.order {
            Order::Inputs => output % per_word,
            Order::Outputs => AWQ_FIELDS[output % per_word],
        };
        (self.field(word, field) + i32::from(self.less_one)) & ((1 << self.bits) - 1)
    }

    fn scale(&self, group: usize, output: usize) -> f32 {
        self.scales[group * self.outputs + output]
    }

    /// The row of one output from an input on, in blocks of 32 that lie within a group.
    pub(super) fn write_blocks(
        &self,
        output: usize,
        from: usize,
        format: BlockFormat,
        out: &mut [u8],
    ) {
        for (block, out) in out.chunks_exact_mut(format.bytes()).enumerate() {
            let first = from + block * BLOCK;
            let group = first / self.group;
            let scale = self.scale(group, output);
            let zero = self.zero(group, output);
            let level = |place: usize| self.level(first + place, output);
            let (head, levels) =
                out.split_at_mut(format.bytes() - BLOCK / if self.bits == 8 { 1 } else { 2 });
            head[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            if format == BlockFormat::Q4_1 {
                let minimum = f16::from_f32(-scale * zero as f32);
                head[2..].copy_from_slice(&minimum.to_le_bytes());
            }
            for (place, byte) in levels.iter_mut().enumerate() {
                *byte = match self.bits {
                    8 => (level(place) - zero) as u8,
                    _ => (level(place) | level(place + BLOCK / 2) << 4) as u8,
                };
            }
        }
    }

    /// The row of one output from an input on, as numbers.
    pub(super) fn write_numbers(&self, output: usize, from: usize, out: &mut [f16]) {
        for (input, number) in (from..).zip(out) {
            let group = match self.groups {
                Some(groups) => groups[input] as usize,
                None => input / self.group,
            };
            let level = self.level(input, output) - self.zero(group, output);
            *number = f16::from_f32(self.scale(group, output) * level as f32);
        }
    }
}
