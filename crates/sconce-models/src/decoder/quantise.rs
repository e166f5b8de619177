//! Which weights are kept in blocks of fewer bits, and in which format: a rule of llama.cpp's `llama-quantize`.
//! How numbers become blocks is `sconce_nn::weights`' business.

use std::collections::BTreeMap;
use std::fmt;

use sconce_nn::weights::{BlockFormat, StoredDtype};

use super::slots::Slot;
use super::spec::{Head, Spec};

/// The formats that matrices are kept in. What is a vector (norms, biases), picks experts or holds positions stays as
/// it is, and so does what the checkpoint has in blocks already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantisation {
    /// This format, or the next larger one with blocks that the rows fill.
    Blocks(BlockFormat),
    /// 4 bits: `q4_k` where rows fill its blocks of 256, else `q4_0`.
    Int4,
}

impl Quantisation {
    /// The format of matrices of that slot with rows of `width` numbers; `None`: they stay as they are.
    pub(crate) fn format(self, slot: Slot, spec: &Spec, width: usize) -> Option<BlockFormat> {
        let wanted = match slot {
            slot if !Self::concerns(slot) => return None,
            Slot::Head => self.of_head(),
            Slot::Embed if spec.head != Head::Own => self.of_head(),
            _ => self,
        };
        wanted.fitting(width)
    }

    /// Whether matrices of that slot are quantised at all.
    pub(crate) fn concerns(slot: Slot) -> bool {
        use Slot::*;
        match slot {
            Embed | EmbedIn | Query | Key | Value | Qkv | AttnOut | Gate | Up | GateUp | Down
            | ExpertGate | ExpertUp | ExpertDown | SharedGate | SharedUp | SharedDown | HeadIn
            | Head => true,
            EmbedNorm | Position | AttnNorm | AttnOutNorm | QueryNorm | KeyNorm | MlpNorm
            | MlpOutNorm | Router | SharedRouter | FinalNorm => false,
        }
    }

    /// As `option.quantize` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocks(format) => format.name(),
            Self::Int4 => "int4",
        }
    }

    /// As the output projection is kept: it decides between tokens whose scores are close, and gets more bits.
    pub(crate) fn of_head(self) -> Self {
        match self {
            Self::Blocks(BlockFormat::Q8_0 | BlockFormat::Q8Row) => Self::Blocks(BlockFormat::Q8_0),
            _ => Self::Blocks(BlockFormat::Q6K),
        }
    }

    /// The first of its formats whose blocks such rows fill.
    pub(crate) fn fitting(self, width: usize) -> Option<BlockFormat> {
        let (first, second) = match self {
            Self::Int4 => (BlockFormat::Q4K, BlockFormat::Q4_0),
            Self::Blocks(BlockFormat::Q4K) => (BlockFormat::Q4K, BlockFormat::Q5_0),
            Self::Blocks(BlockFormat::Q5K) => (BlockFormat::Q5K, BlockFormat::Q5_1),
            Self::Blocks(BlockFormat::Q6K) => (BlockFormat::Q6K, BlockFormat::Q8_0),
            Self::Blocks(format) => (format, format),
        };
        let mut formats = [first, second].into_iter();
        formats.find(|format| width.is_multiple_of(format.numbers()))
    }
}

impl fmt::Display for Quantisation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// How many matrices became what, for the log.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    formats: BTreeMap<&'static str, usize>,
    left: BTreeMap<String, usize>,
}

impl Tally {
    /// Says it in the log, of what was to be quantised.
    pub(crate) fn tell(&self, wanted: Option<Quantisation>) {
        if let Some(wanted) = wanted {
            tracing::info!("weights are quantised to {wanted}; {}", self.told());
        }
    }

    /// Counts a matrix that was to be quantised by the type that it has, and the numbers in a row.
    pub(crate) fn add(&mut self, dtype: StoredDtype, width: usize) {
        match dtype {
            StoredDtype::Quantised(format) => *self.formats.entry(format.name()).or_default() += 1,
            dtype => {
                *self
                    .left
                    .entry(format!("{dtype}, rows of {width}"))
                    .or_default() += 1;
            }
        }
    }

    /// In words: `180 matrices in q5_0, 30 in q4_k; 2 stay, whose rows fill no block (float32, rows of 48)`.
    fn told(&self) -> String {
        let formats: Vec<_> = self
            .formats
            .iter()
            .map(|(name, count)| format!("{count} in {name}"))
            .collect();
        let mut text = match formats.as_slice() {
            [] => "no matrix is quantised".to_owned(),
            formats => format!("matrices: {}", formats.join(", ")),
        };
        if !self.left.is_empty() {
            let kinds: Vec<_> = self.left.keys().map(String::as_str).collect();
            let count: usize = self.left.values().sum();
            text += &format!(
                "; {count} stay, whose rows fill no block ({})",
                kinds.join("; ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_do_not_fill_a_block_get_the_next_larger_format() {
        use BlockFormat::*;
        for (wanted, width, format) in [
            (Quantisation::Blocks(Q4K), 512, Some(Q4K)),
            (Quantisation::Blocks(Q4K), 576, Some(Q5_0)),
            (Quantisation::Blocks(Q5K), 576, Some(Q5_1)),
            (Quantisation::Blocks(Q6K), 576, Some(Q8_0)),
            (Quantisation::Blocks(Q4_0), 576, Some(Q4_0)),
            (Quantisation::Int4, 512, Some(Q4K)),
            (Quantisation::Int4, 576, Some(Q4_0)),
            (Quantisation::Int4, 48, None),
            (Quantisation::Blocks(Q8_0), 48, None),
        ] {
            assert_eq!(wanted.fitting(width), format, "{wanted} {width}");
        }
    }

    #[test]
    fn the_tally_names_formats_and_what_stays() {
        let mut tally = Tally::default();
        assert_eq!(tally.told(), "no matrix is quantised");
        let q8_0 = StoredDtype::Quantised(BlockFormat::Q8_0);
        tally.add(q8_0, 64);
        tally.add(q8_0, 64);
        tally.add(StoredDtype::F32, 48);
        assert_eq!(
            tally.told(),
            "matrices: 2 in q8_0; 1 stay, whose rows fill no block (float32, rows of 48)"
        );
    }
}
