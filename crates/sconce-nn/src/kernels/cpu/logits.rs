//! Passes over one row of logits for the sampler: the peak, sums of exponentials, what lies above a floor.
//!
//! Sums run in an order that depends on the number of values only. What the numbers mean is left to `sconce-engine`.

use super::lanes::{Kernel, LANES, Lanes, dispatch};

/// Vectors that are computed side by side, so that none waits for the one before.
const WIDE: usize = 4;
const STRIP: usize = WIDE * LANES;

/// So many values are added in f32; such sums are added in f64.
const RUN: usize = 32 * STRIP;

/// The highest value; minus infinity when there is none. `None`: one is not a number, or plus infinity.
pub fn peak(values: &[f32]) -> Option<f32> {
    dispatch(Peak(values))
}

/// The sum of `exp((value - peak) / divisor)` over all values, to about 1e-7 of it. No value may lie above the peak.
pub fn sum_exp(values: &[f32], peak: f32, divisor: f32) -> f64 {
    dispatch(SumExp {
        values,
        peak,
        divisor,
    })
}

/// As [`sum_exp`], and leaves the exponentials in `out`, which has the same length.
///
/// # Panics
/// When the lengths differ.
pub fn exp_into(values: &[f32], peak: f32, divisor: f32, out: &mut [f32]) -> f64 {
    assert_eq!(values.len(), out.len());
    dispatch(ExpInto {
        values,
        peak,
        divisor,
        out,
    })
}

/// The sum of all values, to about 1e-7 of the sum of their sizes.
pub fn sum(values: &[f32]) -> f64 {
    dispatch(Sum(values))
}

/// Calls `visit` with the index and value of each value above a floor, from front to back; it returns the floor from
/// there on, which must not fall. Values must be numbers.
pub fn visit_above(values: &[f32], floor: f32, visit: &mut dyn FnMut(usize, f32) -> f32) {
    dispatch(Above {
        values,
        floor,
        visit,
    });
}

struct Peak<'a>(&'a [f32]);

impl Kernel for Peak<'_> {
    type Output = Option<f32>;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Option<f32> {
        let (strips, rest) = self.0.as_chunks::<STRIP>();
        let (one, infinity) = (L::splat(1.0), L::splat(f32::INFINITY));
        let mut peaks = [L::splat(f32::NEG_INFINITY); WIDE];
        // Nothing but a number below plus infinity is below it.
        let mut bad = [L::splat(0.0); WIDE];
        for strip in strips {
            for (at, vector) in strip.as_chunks::<LANES>().0.iter().enumerate() {
                let x = L::load(vector);
                peaks[at] = x.max(peaks[at]);
                bad[at] = x.select_below(infinity, bad[at], one);
            }
        }
        let is_good = |value: &f32| *value < f32::INFINITY;
        let all_good = bad.iter().all(|bad| bad.largest() == 0.0) && rest.iter().all(is_good);
        let peaks = peaks.map(L::largest);
        let peak = peaks.iter().chain(rest).copied();
        all_good.then(|| peak.fold(f32::NEG_INFINITY, f32::max))
    }
}

struct SumExp<'a> {
    values: &'a [f32],
    peak: f32,
    divisor: f32,
}

impl Kernel for SumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f64 {
        let (peak, divisor) = (L::splat(self.peak), L::splat(self.divisor));
        let mut total = 0.0;
        for run in self.values.chunks(RUN) {
            let (strips, rest) = run.as_chunks::<STRIP>();
            let mut sums = [L::splat(0.0); WIDE];
            for strip in strips {
                for (at, vector) in strip.as_chunks::<LANES>().0.iter().enumerate() {
                    sums[at] = sums[at].add(L::load(vector).sub(peak).div(divisor).exp());
                }
            }
            total += add_up(sums);
            for vector in rest.chunks(LANES) {
                let exp = L::load_partial(vector).sub(peak).div(divisor).exp();
                let mut partial = [0.0; LANES];
                exp.store_partial(&mut partial[..vector.len()]);
                total += f64::from(L::load(&partial).sum());
            }
        }
        total
    }
}

struct ExpInto<'a> {
    values: &'a [f32],
    peak: f32,
    divisor: f32,
    out: &'a mut [f32],
}

impl Kernel for ExpInto<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f64 {
        let (peak, divisor) = (L::splat(self.peak), L::splat(self.divisor));
        let (values, rest) = self.values.as_chunks::<LANES>();
        let (outs, out_rest) = self.out.as_chunks_mut::<LANES>();
        for (vector, out) in values.iter().zip(outs) {
            L::load(vector).sub(peak).div(divisor).exp().store(out);
        }
        let last = L::load_partial(rest).sub(peak).div(divisor).exp();
        last.store_partial(out_rest);
        Sum(self.out).run::<L>()
    }
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f64 {
        let mut total = 0.0;
        for run in self.0.chunks(RUN) {
            let (strips, rest) = run.as_chunks::<STRIP>();
            let mut sums = [L::splat(0.0); WIDE];
            for strip in strips {
                for (at, vector) in strip.as_chunks::<LANES>().0.iter().enumerate() {
                    sums[at] = sums[at].add(L::load(vector));
                }
            }
            total += add_up(sums);
            for vector in rest.chunks(LANES) {
                total += f64::from(L::load_partial(vector).sum());
            }
        }
        total
    }
}

#[inline(always)]
fn add_up<L: Lanes>(sums: [L; WIDE]) -> f64 {
    f64::from(sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum())
}

struct Above<'a> {
    values: &'a [f32],
    floor: f32,
    visit: &'a mut dyn FnMut(usize, f32) -> f32,
}

impl Kernel for Above<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let mut floor = self.floor;
        let (strips, rest) = self.values.as_chunks::<STRIP>();
        let mut look = |values: &[f32], first: usize, floor: &mut f32| {
            for (at, &value) in values.iter().enumerate() {
                if value > *floor {
                    *floor = (self.visit)(first + at, value);
                }
            }
        };
        for (number, strip) in strips.iter().enumerate() {
            let [a, b, c, d] = strip.as_chunks::<LANES>().0 else {
                unreachable!("a strip has {WIDE} vectors")
            };
            let highest = L::load(a).max(L::load(b)).max(L::load(c).max(L::load(d)));
            if highest.largest() > floor {
                look(strip, number * STRIP, &mut floor);
            }
        }
        look(rest, strips.len() * STRIP, &mut floor);
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Portable;
    use super::*;

    /// Values from -8 to 8 in an order without pattern.
    fn values(count: usize) -> Vec<f32> {
        let value = |at: usize| (at.wrapping_mul(0x9E37_79B9) >> 8) % 1601;
        (0..count)
            .map(|at| value(at) as f32 / 100.0 - 8.0)
            .collect()
    }

    const LENGTHS: [usize; 7] = [1, 7, 8, 33, 1024, 1061, 49_152];

    #[test]
    fn peaks_and_sums_are_those_of_the_plain_formulas() {
        for count in LENGTHS {
            let values = values(count);
            let highest = values.iter().copied().fold(f32::MIN, f32::max);
            assert_eq!(peak(&values), Some(highest));
            assert_eq!(Peak(&values).run::<Portable>(), Some(highest));
            for divisor in [1.0f32, 0.7, 1e-3] {
                let plain = |&x: &f32| (f64::from(x - highest) / f64::from(divisor)).exp();
                let wanted: f64 = values.iter().map(plain).sum();
                let mut out = vec![9.0; count];
                let kernel = SumExp {
                    values: &values,
                    peak: highest,
                    divisor,
                };
                for got in [
                    sum_exp(&values, highest, divisor),
                    exp_into(&values, highest, divisor, &mut out),
                    kernel.run::<Portable>(),
                    sum(&out),
                ] {
                    assert!((got - wanted).abs() <= 1e-6 * wanted, "{got} {wanted}");
                }
                for (x, got) in values.iter().zip(out) {
                    // A quotient of some hundreds is rounded before its exponential is taken.
                    assert!((f64::from(got) - plain(x)).abs() <= 1e-5 * plain(x) + 1e-37);
                }
            }
        }
        assert_eq!(
            (peak(&[]), sum(&[]), sum_exp(&[], 0.0, 1.0)),
            (Some(f32::NEG_INFINITY), 0.0, 0.0)
        );
    }

    #[test]
    fn what_is_no_number_is_noticed_wherever_it_is() {
        for count in [1, 9, 40, 100] {
            for at in 0..count {
                for (bad, is_bad) in [
                    (f32::NAN, true),
                    (f32::INFINITY, true),
                    (f32::NEG_INFINITY, false),
                ] {
                    let mut values = values(count);
                    values[at] = bad;
                    assert_eq!(peak(&values).is_none(), is_bad, "{bad} at {at} of {count}");
                    assert_eq!(Peak(&values).run::<Portable>().is_none(), is_bad);
                }
            }
        }
    }

    #[test]
    fn those_above_a_rising_floor_are_visited_in_order() {
        for count in LENGTHS {
            let values = values(count);
            let (mut got, mut plain) = (Vec::new(), Vec::new());
            visit_above(&values, -7.0, &mut |at, value| {
                got.push((at, value));
                value
            });
            let mut floor = -7.0;
            for (at, &value) in values.iter().enumerate() {
                if value > floor {
                    plain.push((at, value));
                    floor = value;
                }
            }
            assert_eq!(got, plain);
        }
    }
}
