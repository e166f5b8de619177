//! The block formats of quantised weights, as ggml defines them (`ggml-common.h`), and one that is not ggml's: so many
//! numbers of a row share a block of so many bytes. What the bytes mean is left to the kernels, changing between formats
//! to `blocks`.

use std::fmt;

/// How a run of numbers of one row is packed into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockFormat {
    /// 4 bits around zero, one f16 scale for 32.
    Q4_0,
    /// 4 bits, one f16 scale and one f16 minimum for 32.
    Q4_1,
    /// 5 bits around zero, one f16 scale for 32.
    Q5_0,
    /// 5 bits, one f16 scale and one f16 minimum for 32.
    Q5_1,
    /// 8 bits, one f16 scale for 32.
    Q8_0,
    /// 8 bits, one f16 scale for a whole row: blocks of [`Self::Q8_0`] that all have the same scale. Products then add
    /// integers over more than a block; ggml has no such format.
    Q8Row,
    /// 4 bits, eight runs of 32 with 6-bit scales and minima under one f16 pair for 256.
    Q4K,
    /// 5 bits, otherwise as [`Self::Q4K`].
    Q5K,
    /// 6 bits around zero, sixteen runs of 16 with 8-bit scales under one f16 for 256.
    Q6K,
}

impl BlockFormat {
    /// Every format, for tables and tests.
    pub const ALL: [Self; 9] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q8Row,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Numbers in a block; a row has whole blocks only.
    pub const fn numbers(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Q8Row => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 | Self::Q8Row => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The name that llama.cpp and GGUF files use, in lower case: `q4_k`; `q8_row` for the one that they do not have.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q8Row => "q8_row",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
        }
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
