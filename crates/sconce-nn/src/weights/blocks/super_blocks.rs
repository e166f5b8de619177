//! Numbers to blocks of 256, bit for bit as ggml's reference does it. Candle's port is of an older search that loses
//! runs of equal numbers, so the search for scales is written here: all runs of a block go through it in lockstep, a
//! lane each, which the compiler turns into vector code without changing the order of any sum.
// Counted loops over constant sizes become vector code.
#![allow(clippy::needless_range_loop)]

use half::f16;

use crate::kernels::cpu::lanes::{Kernel, Lanes};
use crate::weights::block_format::BlockFormat;

/// Numbers in a block.
const NUMBERS: usize = 256;

/// Runs of a block that have a scale and a minimum each, and their length.
const RUNS: usize = 8;
const RUN: usize = NUMBERS / RUNS;

/// The same where runs have a scale only.
const SHORT_RUNS: usize = 16;
const SHORT_RUN: usize = NUMBERS / SHORT_RUNS;

/// The largest scale and minimum of a run, which have 6 bits.
const MOST: f32 = 63.0;

/// Numbers below are taken for zero where signs decide.
const NOTHING: f32 = 1e-15;

/// Quantises whole blocks of finite numbers into zeroed bytes.
pub(super) struct SuperBlocks<'a> {
    pub(super) format: BlockFormat,
    pub(super) numbers: &'a [f32],
    pub(super) out: &'a mut [u8],
}

impl Kernel for SuperBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (numbers, _) = self.numbers.as_chunks::<NUMBERS>();
        let blocks = self.out.chunks_exact_mut(self.format.bytes());
        for (numbers, block) in numbers.iter().zip(blocks) {
            match self.format {
                BlockFormat::Q4K => {
                    let levels = affine(numbers, &FOUR_BITS, block);
                    pack_nibbles(&levels, &mut block[16..]);
                }
                BlockFormat::Q5K => {
                    let levels = affine(numbers, &FIVE_BITS, block);
                    pack_fifth_bits(&levels, &mut block[16..48]);
                    pack_nibbles(&levels, &mut block[48..]);
                }
                BlockFormat::Q6K => symmetric(numbers, block),
                other => unreachable!("{other} has no blocks of {NUMBERS}"),
            }
        }
    }
}

/// Which scales are tried for a run: those with `first + i * 0.1` levels more than there are.
struct Search {
    highest: f32,
    first: f32,
    tries: usize,
}

const FOUR_BITS: Search = Search {
    highest: 15.0,
    first: -1.0,
    tries: 21,
};

const FIVE_BITS: Search = Search {
    highest: 31.0,
    first: -0.5,
    tries: 16,
};

/// Rounds to the nearest whole number, of two the even one.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    // Beyond 2^22 the sum is no longer exact, but large enough for whoever clamps the result.
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC) - MAGIC
}

/// What a run's numbers are taken for: `scale * level - minimum`.
struct Affine {
    scales: [f32; RUNS],
    minima: [f32; RUNS],
    levels: [[f32; RUNS]; RUN],
}

/// Chooses scales and minima, writes them to the beginning of the block, and returns the levels.
#[inline(always)]
fn affine(numbers: &[f32; NUMBERS], search: &Search, block: &mut [u8]) -> [u8; NUMBERS] {
    let mut x = [[0.0; RUNS]; RUN];
    for run in 0..RUNS {
        for i in 0..RUN {
            x[i][run] = numbers[run * RUN + i];
        }
    }
    let fit = fit_affine(&x, search);
    let largest = |values: &[f32; RUNS]| values.iter().fold(0.0f32, |most, &x| most.max(x));
    let (scale, minimum) = (largest(&fit.scales), largest(&fit.minima));
    let inverse = |most: f32| if most > 0.0 { MOST / most } else { 0.0 };
    let six_bits = |x: f32, most: f32| nearest(inverse(most) * x).clamp(0.0, MOST) as u8;
    let scales = fit.scales.map(|x| six_bits(x, scale));
    let minima = fit.minima.map(|x| six_bits(x, minimum));
    let (d, dmin) = (f16::from_f32(scale / MOST), f16::from_f32(minimum / MOST));
    block[..2].copy_from_slice(&d.to_le_bytes());
    block[2..4].copy_from_slice(&dmin.to_le_bytes());
    pack_scales(&scales, &minima, &mut block[4..16]);
    let (mut factors, mut shifts) = ([0.0; RUNS], [0.0; RUNS]);
    for run in 0..RUNS {
        factors[run] = d.to_f32() * f32::from(scales[run]);
        shifts[run] = dmin.to_f32() * f32::from(minima[run]);
    }
    let mut levels = [0; NUMBERS];
    for i in 0..RUN {
        for run in 0..RUNS {
            let level = nearest((x[i][run] + shifts[run]) / factors[run]);
            let level = level.clamp(0.0, search.highest);
            let searched = fit.levels[i][run];
            levels[run * RUN + i] = if factors[run] == 0.0 { searched } else { level } as u8;
        }
    }
    levels
}

/// Scale and minimum of each run with the smallest weighted squared error among those that the search tries, each
/// improved by linear regression.
#[inline(always)]
fn fit_affine(x: &[[f32; RUNS]; RUN], search: &Search) -> Affine {
    let mut squares = [0.0; RUNS];
    for x in x {
        for run in 0..RUNS {
            squares[run] += x[run] * x[run];
        }
    }
    let deviation = squares.map(|sum| (sum / RUN as f32).sqrt());
    let mut weights = [[0.0; RUNS]; RUN];
    let (mut low, mut high) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = ([0.0; RUNS], [0.0; RUNS]);
    for i in 0..RUN {
        for run in 0..RUNS {
            let number = x[i][run];
            let weight = deviation[run] + number.abs();
            weights[i][run] = weight;
            low[run] = if number < low[run] { number } else { low[run] };
            high[run] = if number > high[run] {
                number
            } else {
                high[run]
            };
            sum_w[run] += weight;
            sum_x[run] += weight * number;
        }
    }
    let low = low.map(|low| if low > 0.0 { 0.0 } else { low });
    // The lowest number so far, the scale, and from which factor and lowest number the levels came.
    let (mut base, mut scales, mut error) = (low, [0.0; RUNS], [0.0; RUNS]);
    let (mut level_factor, mut level_base) = ([0.0; RUNS], low);
    for run in 0..RUNS {
        level_factor[run] = search.highest / (high[run] - low[run]);
        scales[run] = 1.0 / level_factor[run];
    }
    for i in 0..RUN {
        for run in 0..RUNS {
            let level = nearest(level_factor[run] * (x[i][run] - low[run]));
            let level = level.clamp(0.0, search.highest);
            let off = scales[run] * level + low[run] - x[i][run];
            error[run] += weights[i][run] * (off * off);
        }
    }
    for attempt in 0..search.tries {
        let reach = search.first + 0.1 * attempt as f32 + search.highest;
        let mut levels = [[0.0; RUNS]; RUN];
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; RUNS], [0.0; RUNS], [0.0; RUNS]);
        let mut factor = [0.0; RUNS];
        for run in 0..RUNS {
            factor[run] = reach / (high[run] - base[run]);
        }
        for i in 0..RUN {
            for run in 0..RUNS {
                let level = nearest(factor[run] * (x[i][run] - base[run]));
                let level = level.clamp(0.0, search.highest);
                levels[i][run] = level;
                let weighted = weights[i][run] * level;
                sum_l[run] += weighted;
                sum_l2[run] += weighted * level;
                sum_xl[run] += weighted * x[i][run];
            }
        }
        let (mut scale, mut shift, mut valid) = ([0.0; RUNS], [0.0; RUNS], [false; RUNS]);
        for run in 0..RUNS {
            let spread = sum_w[run] * sum_l2[run] - sum_l[run] * sum_l[run];
            valid[run] = spread > 0.0;
            scale[run] = (sum_w[run] * sum_xl[run] - sum_x[run] * sum_l[run]) / spread;
            shift[run] = (sum_l2[run] * sum_x[run] - sum_l[run] * sum_xl[run]) / spread;
            if shift[run] > 0.0 {
                shift[run] = 0.0;
                scale[run] = sum_xl[run] / sum_l2[run];
            }
        }
        let mut now = [0.0; RUNS];
        for i in 0..RUN {
            for run in 0..RUNS {
                let off = scale[run] * levels[i][run] + shift[run] - x[i][run];
                now[run] += weights[i][run] * (off * off);
            }
        }
        for run in 0..RUNS {
            if valid[run] && now[run] < error[run] {
                (level_factor[run], level_base[run]) = (factor[run], base[run]);
                (error[run], scales[run], base[run]) = (now[run], scale[run], shift[run]);
            }
        }
    }
    let mut levels = [[0.0; RUNS]; RUN];
    for run in 0..RUNS {
        // Equal numbers need no levels; the divisions above were by zero.
        let equal = high[run] == low[run];
        if equal {
            (scales[run], base[run]) = (0.0, low[run]);
        }
        for i in 0..RUN {
            let level = nearest(level_factor[run] * (x[i][run] - level_base[run]));
            let level = level.clamp(0.0, search.highest);
            levels[i][run] = if equal { 0.0 } else { level };
        }
    }
    Affine {
        scales,
        minima: base.map(|base| -base),
        levels,
    }
}

/// Eight scales and eight minima of 6 bits in 12 bytes.
#[inline(always)]
fn pack_scales(scales: &[u8; RUNS], minima: &[u8; RUNS], out: &mut [u8]) {
    for run in 0..RUNS / 2 {
        let (scale, minimum) = (scales[run + 4], minima[run + 4]);
        out[run] = scales[run] | (scale >> 4) << 6;
        out[run + 4] = minima[run] | (minimum >> 4) << 6;
        out[run + 8] = scale & 0xf | (minimum & 0xf) << 4;
    }
}

/// The lower four bits of each level: those of two runs share their bytes.
#[inline(always)]
fn pack_nibbles(levels: &[u8; NUMBERS], out: &mut [u8]) {
    for (levels, out) in levels.chunks_exact(2 * RUN).zip(out.chunks_exact_mut(RUN)) {
        for i in 0..RUN {
            out[i] = levels[i] & 0xf | (levels[i + RUN] & 0xf) << 4;
        }
    }
}

/// The fifth bit of each level: a byte has that of one number of every run.
#[inline(always)]
fn pack_fifth_bits(levels: &[u8; NUMBERS], out: &mut [u8]) {
    for (run, levels) in levels.chunks_exact(RUN).enumerate() {
        for i in 0..RUN {
            out[i] |= (levels[i] >> 4) << run;
        }
    }
}

/// Chooses the scales of short runs and writes the whole block.
#[inline(always)]
fn symmetric(numbers: &[f32; NUMBERS], block: &mut [u8]) {
    let mut x = [[0.0; SHORT_RUNS]; SHORT_RUN];
    for run in 0..SHORT_RUNS {
        for i in 0..SHORT_RUN {
            x[i][run] = numbers[run * SHORT_RUN + i];
        }
    }
    let (scales, searched) = fit_symmetric(&x);
    let mut most = 0.0f32;
    for scale in scales {
        most = if scale.abs() > most.abs() {
            scale
        } else {
            most
        };
    }
    if most.abs() < NOTHING {
        return block.fill(0);
    }
    let inverse = -128.0 / most;
    let d = f16::from_f32(1.0 / inverse);
    let eight_bits = scales.map(|scale| nearest(inverse * scale).clamp(-128.0, 127.0) as i8);
    let factors = eight_bits.map(|scale| d.to_f32() * f32::from(scale));
    let mut levels = [0; NUMBERS];
    for i in 0..SHORT_RUN {
        for run in 0..SHORT_RUNS {
            let level = nearest(x[i][run] / factors[run]).clamp(-32.0, 31.0) + 32.0;
            let level = if factors[run] == 0.0 {
                searched[i][run]
            } else {
                level
            };
            levels[run * SHORT_RUN + i] = level as u8;
        }
    }
    let (low, rest) = block.split_at_mut(128);
    let (high, rest) = rest.split_at_mut(64);
    for half in 0..2 {
        let levels = &levels[128 * half..][..128];
        let (low, high) = (&mut low[64 * half..][..64], &mut high[32 * half..][..32]);
        for i in 0..32 {
            let [one, two, three, four] = [0, 32, 64, 96].map(|place| levels[place + i]);
            low[i] = one & 0xf | (three & 0xf) << 4;
            low[i + 32] = two & 0xf | (four & 0xf) << 4;
            high[i] = one >> 4 | (two >> 4) << 2 | (three >> 4) << 4 | (four >> 4) << 6;
        }
    }
    for (byte, scale) in rest.iter_mut().zip(eight_bits) {
        *byte = scale.to_le_bytes()[0];
    }
    rest[16..].copy_from_slice(&d.to_le_bytes());
}

/// The scale of each run with the smallest squared error, in which large numbers count more, and the levels, from zero.
#[inline(always)]
fn fit_symmetric(
    x: &[[f32; SHORT_RUNS]; SHORT_RUN],
) -> ([f32; SHORT_RUNS], [[f32; SHORT_RUNS]; SHORT_RUN]) {
    let mut most = [0.0f32; SHORT_RUNS];
    for x in x {
        for run in 0..SHORT_RUNS {
            most[run] = if x[run].abs() > most[run].abs() {
                x[run]
            } else {
                most[run]
            };
        }
    }
    let (mut scales, mut best) = ([0.0; SHORT_RUNS], [0.0; SHORT_RUNS]);
    let mut level_factor = [0.0; SHORT_RUNS];
    // The plain scale first, then those around it.
    for attempt in std::iter::once(0).chain(-9..=-1).chain(1..=9) {
        let reach = -(32.0 + 0.1 * attempt as f32);
        let (mut sum_xl, mut sum_l2) = ([0.0; SHORT_RUNS], [0.0; SHORT_RUNS]);
        let factor = most.map(|most| reach / most);
        for x in x {
            for run in 0..SHORT_RUNS {
                let level = nearest(factor[run] * x[run]).clamp(-32.0, 31.0);
                let weight = x[run] * x[run];
                sum_xl[run] += weight * x[run] * level;
                sum_l2[run] += weight * level * level;
            }
        }
        for run in 0..SHORT_RUNS {
            let (product, square) = (sum_xl[run], sum_l2[run]);
            if attempt == 0 || square > 0.0 && product * product > best[run] * square {
                scales[run] = if square == 0.0 { 0.0 } else { product / square };
                best[run] = scales[run] * product;
                level_factor[run] = factor[run];
            }
        }
    }
    let mut levels = [[0.0; SHORT_RUNS]; SHORT_RUN];
    for run in 0..SHORT_RUNS {
        let nothing = most[run].abs() < NOTHING;
        if nothing {
            scales[run] = 0.0;
        }
        for i in 0..SHORT_RUN {
            let level = nearest(level_factor[run] * x[i][run]).clamp(-32.0, 31.0) + 32.0;
            levels[i][run] = if nothing { 0.0 } else { level };
        }
    }
    (scales, levels)
}
