//! Element types of stored tensors and the Rust types that stand for them.
//! Converting between them is `convert`; the names in files are the readers' business.

use std::fmt;

use super::block_format::BlockFormat;

/// Element type of a tensor as the checkpoint stores it, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoredDtype {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single precision number.
    BF16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 64 bits.
    U64,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 8 bits.
    U8,
    /// One byte, zero or one.
    Bool,
    /// Blocks of so many numbers of a row in so many bytes.
    Quantised(BlockFormat),
}

impl StoredDtype {
    /// Every type but the quantised ones, for tables and tests.
    pub const ALL: [Self; 13] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
    ];

    /// Bytes of one element, or of one block of a quantised type.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::Quantised(format) => format.bytes(),
        }
    }

    /// Elements that share a block: one, but for quantised types.
    pub fn per_block(self) -> usize {
        match self {
            Self::Quantised(format) => format.numbers(),
            _ => 1,
        }
    }

    /// Bytes of so many elements, which are whole blocks.
    pub fn bytes(self, elements: usize) -> usize {
        elements / self.per_block() * self.size()
    }

    /// As [`Self::bytes`]; `None` when that is no number.
    pub fn checked_bytes(self, elements: usize) -> Option<usize> {
        (elements / self.per_block()).checked_mul(self.size())
    }

    /// The name torch and `config.json` use, such as `bfloat16`; for quantised types that of ggml, such as `q4_k`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U64 => "uint64",
            Self::U32 => "uint32",
            Self::U16 => "uint16",
            Self::U8 => "uint8",
            Self::Bool => "bool",
            Self::Quantised(format) => format.name(),
        }
    }

    /// Whether the type is one of the block formats.
    pub fn is_quantised(self) -> bool {
        matches!(self, Self::Quantised(_))
    }

    /// Whether the type is one of the four floating-point kinds.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }
}

impl fmt::Display for StoredDtype {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A Rust type whose every bit pattern is a value of one stored type.
///
/// # Safety
/// `Self` has no padding, no invalid bit patterns and the size of `DTYPE`.
#[allow(unsafe_code)]
pub unsafe trait Element: Copy + Default + Send + Sync + 'static {
    /// The stored type this stands for.
    const DTYPE: StoredDtype;
}

macro_rules! elements {
    ($($rust:ty => $stored:ident),* $(,)?) => {$(
        // SAFETY: a plain number (or a transparent wrapper of one) of the size that `size` states.
        #[allow(unsafe_code)]
        unsafe impl Element for $rust {
            const DTYPE: StoredDtype = StoredDtype::$stored;
        }
    )*};
}

elements! {
    f64 => F64, f32 => F32, half::f16 => F16, half::bf16 => BF16,
    i64 => I64, i32 => I32, i16 => I16, i8 => I8,
    u64 => U64, u32 => U32, u16 => U16, u8 => U8,
}
