//! Sixteen 32-bit words that are computed with at once, and the choice of instructions at run time.
//!
//! Everything above is written once over [`Isa`]. Integers are exact and all implementations fuse the same float
//! operations, so they give the same bits.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use portable::Portable;

/// Words, floats, and rows of weights that are computed with at once.
pub(super) const SIDE: usize = 16;

/// Words as they lie in memory.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; SIDE]);

/// A set of instructions. All methods are inlined into a function that has them.
///
/// # Safety
/// Methods may only be called in kernels that [`Instructions::run`] runs, on machines that have the instructions; those
/// that take pointers read or write what they name there.
pub(super) trait Isa: Copy {
    /// Sixteen words of 32 bits, or 64 bytes.
    type Words: Copy;
    /// Sixteen f32 numbers.
    type Floats: Copy;

    /// Rows of `x` for whose sums there are registers, two vectors each.
    const ROWS: usize;
    /// Whether full bytes count as what they are above 128 in [`Self::dot`].
    const SIGNED: bool;

    unsafe fn splat(word: u32) -> Self::Words;
    unsafe fn load(from: *const u8) -> Self::Words;
    unsafe fn store(words: Self::Words, to: *mut Line);
    /// Writes the lowest byte of every word.
    unsafe fn store_bytes(words: Self::Words, to: *mut i8);

    unsafe fn and(one: Self::Words, other: Self::Words) -> Self::Words;
    unsafe fn or(one: Self::Words, other: Self::Words) -> Self::Words;
    unsafe fn shift_left(words: Self::Words, bits: u32) -> Self::Words;
    unsafe fn shift_right(words: Self::Words, bits: u32) -> Self::Words;

    /// The largest word, without a sign.
    unsafe fn largest(words: Self::Words) -> u32;
    /// The lower 32 bits of the sum of all words.
    unsafe fn sum(words: Self::Words) -> u32;

    /// To every word of `sums` the products of four bytes: `weights` without sign, below 128 unless `FULL`, and `x` with a
    /// sign, above -128.
    unsafe fn dot<const FULL: bool>(
        sums: Self::Words,
        weights: Self::Words,
        x: Self::Words,
    ) -> Self::Words;

    /// The f16 number in the low half of every word, whose high half is zero.
    unsafe fn widen(words: Self::Words) -> Self::Floats;
    /// Sixteen f16 numbers.
    unsafe fn load_halves(from: *const u8) -> Self::Floats;
    /// The floats of integers with sign.
    unsafe fn convert(words: Self::Words) -> Self::Floats;
    unsafe fn bits(floats: Self::Floats) -> Self::Words;
    unsafe fn splat_float(number: f32) -> Self::Floats;
    unsafe fn load_floats(from: *const u8) -> Self::Floats;
    unsafe fn store_floats(floats: Self::Floats, to: *mut f32);
    unsafe fn multiply(one: Self::Floats, other: Self::Floats) -> Self::Floats;
    /// `addend + one * other`, rounded once.
    unsafe fn multiply_add(
        one: Self::Floats,
        other: Self::Floats,
        addend: Self::Floats,
    ) -> Self::Floats;

    /// Has the line of the cache at any address read soon.
    unsafe fn prefetch(at: *const u8);
    /// The same, but not into the first level of the cache.
    unsafe fn prefetch_to_second_level(at: *const u8);
}

/// A computation over any set of instructions.
pub(super) trait Kernel {
    /// Must be `#[inline(always)]`, as all that it calls.
    ///
    /// # Safety
    /// As for [`Isa`].
    unsafe fn run<I: Isa>(self);
}

/// The sets of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Instructions {
    /// All that this machine has, the best one first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let special = [
            (Self::Avx512, avx512::is_available()),
            (Self::Avx2, avx2::is_available()),
        ];
        #[cfg(target_arch = "aarch64")]
        let special = [(Self::Neon, true)];
        #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
        let special: [(Self, bool); 0] = [];
        special
            .into_iter()
            .filter_map(|(instructions, available)| available.then_some(instructions))
            .chain([Self::Portable])
    }

    /// The best ones of this machine.
    pub(super) fn best() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// Runs the kernel with these instructions, which are [`Self::available`].
    pub(super) fn run<K: Kernel>(self, kernel: K) {
        // SAFETY: the machine has the instructions, of which values are only made by `available`.
        unsafe {
            match self {
                Self::Portable => kernel.run::<Portable>(),
                #[cfg(target_arch = "aarch64")]
                Self::Neon => kernel.run::<neon::Neon>(),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2::run(kernel),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512::run(kernel),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::quant::testing::bytes;
    use crate::kernels::cpu::testing::numbers;

    /// What every method makes of some bytes, as words.
    struct Everything<'a> {
        bytes: &'a [u8],
        floats: &'a [f32],
        results: &'a mut Vec<[u32; SIDE]>,
    }

    impl Kernel for Everything<'_> {
        #[inline(always)]
        unsafe fn run<I: Isa>(self) {
            const ROW: usize = 37;
            let Self {
                bytes,
                floats,
                results,
            } = self;
            assert!(bytes.len() >= 4 * ROW + 64 && floats.len() >= SIDE);
            let mut keep = |words: I::Words| {
                let mut line = Line([0; SIDE]);
                unsafe { I::store(words, &raw mut line) };
                results.push(line.0);
            };
            let keep_floats = |floats: I::Floats| unsafe {
                let mut line = Line([0; SIDE]);
                I::store_floats(floats, (&raw mut line).cast());
                I::or(I::load((&raw const line).cast()), I::bits(floats))
            };
            unsafe {
                let at = bytes.as_ptr();
                let rows = [0, 1, 2, 3].map(|row| I::load(at.add(row * ROW)));
                rows.into_iter().for_each(&mut keep);
                keep(I::splat(0x1234_5678));
                keep(I::and(rows[0], rows[1]));
                keep(I::or(rows[0], rows[1]));
                keep(I::shift_left(rows[0], 7));
                keep(I::shift_right(rows[0], 7));
                keep(I::splat(I::largest(rows[1])));
                keep(I::splat(I::sum(rows[1])));
                let mut line = Line([0; SIDE]);
                I::store_bytes(rows[1], (&raw mut line).cast());
                keep(I::load((&raw const line).cast()));
                let four = [-127, 0, 127, 5_i8];
                let x = I::splat(u32::from_le_bytes(four.map(|byte| byte as u8)));
                let offset = 128 * four.map(i32::from).iter().sum::<i32>();
                let begin = I::splat(if I::SIGNED { offset as u32 } else { 0 });
                keep(I::dot::<true>(begin, rows[3], x));
                let low = I::and(rows[3], I::splat(0x7f7f_7f7f));
                keep(I::dot::<false>(
                    rows[2],
                    I::and(low, I::splat(0x3f3f_3f3f)),
                    x,
                ));
                keep(I::dot::<true>(begin, low, x));
                keep(keep_floats(I::convert(rows[0])));
                // Finite halves of both signs.
                let halves = I::and(rows[1], I::splat(0xbbff));
                keep(keep_floats(I::widen(halves)));
                let [one, other] = [0, 1].map(|_| I::splat_float(floats[3]));
                let integers = I::convert(rows[2]);
                keep(keep_floats(I::multiply(one, integers)));
                keep(keep_floats(I::multiply_add(one, integers, other)));
                let halves: Vec<u8> = (0..32).map(|byte| 0x30 + byte % 11).collect();
                keep(keep_floats(I::load_halves(halves.as_ptr())));
                I::prefetch(at);
                I::prefetch_to_second_level(at);
            }
        }
    }

    #[test]
    fn all_instructions_compute_the_same_bits() {
        let (bytes, floats) = (bytes(1024, 1), numbers(SIDE, 2));
        let run = |instructions: Instructions| {
            let mut results = Vec::new();
            instructions.run(Everything {
                bytes: &bytes,
                floats: &floats,
                results: &mut results,
            });
            results
        };
        let wanted = run(Instructions::Portable);
        assert_eq!(wanted.len(), 20);
        for instructions in Instructions::available() {
            for (index, (got, wanted)) in run(instructions).iter().zip(&wanted).enumerate() {
                assert_eq!(got, wanted, "{instructions:?}, result {index}");
            }
        }
    }
}
