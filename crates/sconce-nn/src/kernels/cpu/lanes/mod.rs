//! Eight f32 numbers that are computed with at once, and the choice of instructions at run time.
//!
//! A kernel is written once, as a [`Kernel`], over any [`Lanes`]; [`dispatch`] compiles it for each set of
//! instructions and picks one. All methods of a kernel must be `#[inline(always)]`: closures and ordinary functions
//! would be compiled without the vector instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(test, not(target_arch = "aarch64")))]
mod portable;

use half::{bf16, f16};

#[cfg(any(test, not(target_arch = "aarch64")))]
pub(crate) use portable::Portable;

/// Numbers in one vector.
pub(crate) const LANES: usize = 8;

/// Eight f32 numbers. Reductions have a fixed order, the same in all implementations; only `mul_add` differs, by
/// rounding once or twice.
pub(crate) trait Lanes: Copy {
    /// Whether the code around has the instructions of [`super::wide`] too.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "they are of x86-64")
    )]
    const WIDE: bool;
    /// Whether it multiplies bf16 numbers too; only ever with [`dispatch_bf16`].
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    const BF16: bool;

    fn splat(value: f32) -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn load_f16(from: &[f16; LANES]) -> Self;
    fn load_bf16(from: &[bf16; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * factor + addend`.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The larger one; `other` where either is not a number.
    fn max(self, other: Self) -> Self;
    /// The smaller one; `other` where either is not a number.
    fn min(self, other: Self) -> Self;
    /// `then` where `self < limit`, else `otherwise`.
    fn select_below(self, limit: Self, then: Self, otherwise: Self) -> Self;
    /// Two to the power of the integer in the low bits of `self`, a float to which 1.5 * 2^23 was added.
    fn exp2_of_low_bits(self) -> Self;
    /// Sum of all lanes: `((0+4)+(2+6)) + ((1+5)+(3+7))`.
    fn sum(self) -> f32;
    /// The largest lane.
    fn largest(self) -> f32;

    /// Fewer than eight numbers, the rest zero.
    #[inline(always)]
    fn load_partial(from: &[f32]) -> Self {
        let mut padded = [0.0; LANES];
        padded[..from.len()].copy_from_slice(from);
        Self::load(&padded)
    }

    /// Stores the first `to.len()` numbers.
    #[inline(always)]
    fn store_partial(self, to: &mut [f32]) {
        let mut padded = [0.0; LANES];
        self.store(&mut padded);
        let len = to.len();
        to.copy_from_slice(&padded[..len]);
    }

    /// e to the power of each lane, within two units in the last place; zero below -87.33, infinity above 88.37.
    #[inline(always)]
    fn exp(self) -> Self {
        // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
        let magic = Self::splat(12_582_912.0);
        let clamped = Self::splat(88.37).min(Self::splat(-87.4).max(self));
        let shifted = clamped.mul_add(Self::splat(std::f32::consts::LOG2_E), magic);
        let whole = shifted.sub(magic);
        // ln 2 in two parts, so that the remainder is exact to beyond single precision.
        let rest = whole.mul_add(Self::splat(-0.693_359_4), clamped);
        let rest = whole.mul_add(Self::splat(2.121_944_4e-4), rest);
        let mut series = Self::splat(1.987_569_1e-4);
        for coefficient in [
            1.398_2e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_6e-1,
            0.5,
        ] {
            series = series.mul_add(rest, Self::splat(coefficient));
        }
        let series = series.mul_add(rest.mul(rest), rest).add(Self::splat(1.0));
        let result = series.mul(shifted.exp2_of_low_bits());
        let result = self.select_below(Self::splat(-87.33), Self::splat(0.0), result);
        Self::splat(88.37).select_below(self, Self::splat(f32::INFINITY), result)
    }
}

/// A stored weight that is widened to f32 while it is read.
pub(crate) trait Weight: Copy + Default + Send + Sync + 'static {
    fn load<L: Lanes>(from: &[Self; LANES]) -> L;
}

impl Weight for f32 {
    #[inline(always)]
    fn load<L: Lanes>(from: &[Self; LANES]) -> L {
        L::load(from)
    }
}

impl Weight for f16 {
    #[inline(always)]
    fn load<L: Lanes>(from: &[Self; LANES]) -> L {
        L::load_f16(from)
    }
}

impl Weight for bf16 {
    #[inline(always)]
    fn load<L: Lanes>(from: &[Self; LANES]) -> L {
        L::load_bf16(from)
    }
}

/// A computation over vectors of any kind.
pub(crate) trait Kernel {
    type Output;

    /// Must be `#[inline(always)]`.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// Runs the kernel with the best vectors of this machine.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if avx2::is_available() {
        return avx2::run(kernel);
    }
    #[cfg(target_arch = "aarch64")]
    return kernel.run::<neon::Neon>();
    #[cfg(not(target_arch = "aarch64"))]
    kernel.run::<Portable>()
}

/// As [`dispatch`], for kernels that also know what to do with [`Lanes::BF16`].
pub(crate) fn dispatch_bf16<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if super::wide::has_bf16() {
        return avx2::run_bf16(kernel);
    }
    dispatch(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp<'a>(&'a [f32; LANES], &'a mut [f32; LANES]);

    impl Kernel for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes>(self) {
            L::load(self.0).exp().store(self.1);
        }
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for step in 0..200_000 {
            let x = -87.0 + step as f32 * (175.3 / 200_000.0);
            let (mut fast, mut plain) = ([0.0; LANES], [0.0; LANES]);
            dispatch(Exp(&[x; LANES], &mut fast));
            Exp(&[x; LANES], &mut plain).run::<Portable>();
            let exact = f64::from(x).exp();
            for got in [fast[0], plain[0]] {
                worst = worst.max((f64::from(got) - exact).abs() / exact / f64::from(f32::EPSILON));
            }
        }
        assert!(worst < 2.0, "{worst}");
    }

    #[test]
    fn exp_saturates_and_passes_on_what_is_not_a_number() {
        let x = [
            f32::NEG_INFINITY,
            -90.0,
            -0.0,
            0.0,
            88.3,
            88.5,
            f32::INFINITY,
            f32::NAN,
        ];
        let (mut fast, mut plain) = ([0.0; LANES], [0.0; LANES]);
        dispatch(Exp(&x, &mut fast));
        Exp(&x, &mut plain).run::<Portable>();
        for got in [fast, plain] {
            assert_eq!(got[..4], [0.0, 0.0, 1.0, 1.0]);
            assert!(got[4].is_finite() && got[4] > 2.2e38);
            assert_eq!(got[5..7], [f32::INFINITY; 2]);
            assert!(got[7].is_nan());
        }
    }

    struct Reduce<'a>(&'a [f32; LANES]);

    impl Kernel for Reduce<'_> {
        type Output = [f32; 2];

        #[inline(always)]
        fn run<L: Lanes>(self) -> [f32; 2] {
            let x = L::load(self.0);
            [x.sum(), x.largest()]
        }
    }

    #[test]
    fn both_kinds_of_vectors_reduce_in_the_same_order() {
        let x = [1e8, 1.0, -1e8, 3.3, 7e-3, -1.5, 2.5, 1e7];
        assert_eq!(dispatch(Reduce(&x)), Reduce(&x).run::<Portable>());
        assert_eq!(dispatch(Reduce(&x))[1], 1e8);
    }

    struct Widen<'a>(
        &'a [f16; LANES],
        &'a [bf16; LANES],
        &'a mut [f32; LANES],
        &'a mut [f32; LANES],
    );

    impl Kernel for Widen<'_> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes>(self) {
            L::load_f16(self.0).store(self.2);
            L::load_bf16(self.1).store(self.3);
        }
    }

    #[test]
    fn every_half_precision_number_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            let mut got = [[0.0; LANES]; 4];
            let [a, b, c, d] = &mut got;
            dispatch(Widen(&[half; LANES], &[brain; LANES], a, b));
            Widen(&[half; LANES], &[brain; LANES], c, d).run::<Portable>();
            for (got, wanted) in [
                (got[0], half.to_f32()),
                (got[2], half.to_f32()),
                (got[1], brain.to_f32()),
                (got[3], brain.to_f32()),
            ] {
                assert!(
                    got[5] == wanted || (got[5].is_nan() && wanted.is_nan()),
                    "{bits:#x}"
                );
            }
        }
    }
}
