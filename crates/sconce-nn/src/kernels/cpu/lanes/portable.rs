//! Eight numbers in an array, for machines without AVX2 and for tests of the same kernels.
// Counted loops over constant sizes unroll into registers.
#![allow(clippy::needless_range_loop)]

use half::{bf16, f16};

use super::{LANES, Lanes};

/// Vectors as the compiler makes them from plain loops.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        let mut result = [0.0; LANES];
        for lane in 0..LANES {
            result[lane] = operation(self.0[lane], other.0[lane]);
        }
        Self(result)
    }
}

/// Exact for every bit pattern; the conversion of `half` may call a function for each number.
#[inline(always)]
pub(super) fn widen_f16(number: f16) -> f32 {
    let bits = u32::from(number.to_bits());
    let magnitude = (bits & 0x7fff) << 13;
    // The exponent is rebased by a multiplication, which is right for subnormal numbers too.
    let finite = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
    let special = f32::from_bits(magnitude | 0x7f80_0000);
    let value = if bits & 0x7c00 == 0x7c00 {
        special
    } else {
        finite
    };
    f32::from_bits(value.to_bits() | (bits & 0x8000) << 16)
}

impl Lanes for Portable {
    const WIDE: bool = false;
    const BF16: bool = false;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    fn load_f16(from: &[f16; LANES]) -> Self {
        Self(from.map(widen_f16))
    }

    #[inline(always)]
    fn load_bf16(from: &[bf16; LANES]) -> Self {
        Self(from.map(|number| f32::from_bits(u32::from(number.to_bits()) << 16)))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.mul(factor).add(addend)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn select_below(self, limit: Self, then: Self, otherwise: Self) -> Self {
        let mut result = otherwise.0;
        for lane in 0..LANES {
            if self.0[lane] < limit.0[lane] {
                result[lane] = then.0[lane];
            }
        }
        Self(result)
    }

    #[inline(always)]
    fn exp2_of_low_bits(self) -> Self {
        Self(
            self.0
                .map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(1.0f32.to_bits()))),
        )
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let x = self.0;
        ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        let x = self.0;
        let pairs = [
            larger(x[0], x[4]),
            larger(x[1], x[5]),
            larger(x[2], x[6]),
            larger(x[3], x[7]),
        ];
        larger(larger(pairs[0], pairs[2]), larger(pairs[1], pairs[3]))
    }
}
