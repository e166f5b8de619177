//! Activation functions over vectors, alone or multiplied with a second input.

use std::marker::PhantomData;

use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::parallel;

/// Elementary operations per element, for deciding about a fork.
const COST: usize = 8;

/// Elements that one task handles at least; a multiple of the vector length, so that only the end is partial.
const RUN: usize = 1024;

/// A function of one number.
pub(crate) trait Function: Send + Sync {
    /// Must be `#[inline(always)]`.
    fn at<L: Lanes>(x: L) -> L;
}

/// `out = F(x)`.
pub(crate) fn map<F: Function>(x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    in_runs(out, &|start, out| {
        let x = &x[start..start + out.len()];
        dispatch(Map::<F> {
            x,
            out,
            function: PhantomData,
        });
    });
}

/// `out = x + y`.
pub(crate) fn add(x: &[f32], y: &[f32], out: &mut [f32]) {
    assert_eq!((x.len(), y.len()), (out.len(), out.len()));
    in_runs(out, &|start, out| {
        let (x, y) = (&x[start..start + out.len()], &y[start..start + out.len()]);
        dispatch(Add { x, y, out });
    });
}

/// `out = F(gate) * up`.
pub(crate) fn gate<F: Function>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert_eq!((gate.len(), up.len()), (out.len(), out.len()));
    in_runs(out, &|start, out| {
        let (gate, up) = (
            &gate[start..start + out.len()],
            &up[start..start + out.len()],
        );
        dispatch(Gate::<F> {
            gate,
            up,
            out,
            function: PhantomData,
        });
    });
}

fn in_runs(out: &mut [f32], work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let whole = out.len() - out.len() % RUN;
    let (runs, rest) = out.split_at_mut(whole);
    parallel::over_rows(runs, RUN, RUN * COST, &|first, out| work(first * RUN, out));
    work(whole, rest);
}

/// `out = x + y`, in one task.
pub(super) struct Add<'a> {
    pub(super) x: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        for ((out, x), y) in self.out.iter_mut().zip(self.x).zip(self.y) {
            *out = x + y;
        }
    }
}

struct Map<'a, F> {
    x: &'a [f32],
    out: &'a mut [f32],
    function: PhantomData<F>,
}

impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (xs, x_rest) = self.x.as_chunks::<LANES>();
        let (outs, out_rest) = self.out.as_chunks_mut::<LANES>();
        for (x, out) in xs.iter().zip(outs) {
            F::at(L::load(x)).store(out);
        }
        F::at(L::load_partial(x_rest)).store_partial(out_rest);
    }
}

struct Gate<'a, F> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
    function: PhantomData<F>,
}

impl<F: Function> Kernel for Gate<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (gates, gate_rest) = self.gate.as_chunks::<LANES>();
        let (ups, up_rest) = self.up.as_chunks::<LANES>();
        let (outs, out_rest) = self.out.as_chunks_mut::<LANES>();
        for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
            F::at(L::load(gate)).mul(L::load(up)).store(out);
        }
        F::at(L::load_partial(gate_rest))
            .mul(L::load_partial(up_rest))
            .store_partial(out_rest);
    }
}

/// `x / (1 + exp(-slope * x))`.
#[inline(always)]
fn sigmoid_times<L: Lanes>(x: L, slope: L) -> L {
    let one = L::splat(1.0);
    x.div(one.add(L::splat(0.0).sub(x.mul(slope)).exp()))
}

/// Hyperbolic tangent within 2e-7.
#[inline(always)]
pub(super) fn tanh<L: Lanes>(x: L) -> L {
    let (one, two) = (L::splat(1.0), L::splat(2.0));
    one.sub(two.div(one.add(x.mul(two).exp())))
}

/// Error function within 2e-7: a rational approximation up to 3.74, beyond which single precision has only one.
#[inline(always)]
fn erf<L: Lanes>(all: L) -> L {
    let (limit, one) = (L::splat(3.743_921_3), L::splat(1.0));
    let minus = |x: L| L::splat(0.0).sub(x);
    let x = limit.min(minus(limit).max(all));
    let square = x.mul(x);
    let mut above = L::splat(2.290_506_5e-4);
    for coefficient in [
        3.408_291e-3,
        5.095_569_5e-2,
        1.852_083_2e-1,
        std::f32::consts::FRAC_2_SQRT_PI,
    ] {
        above = above.mul_add(square, L::splat(coefficient));
    }
    let mut below = L::splat(-1.179_160_3e-7);
    for coefficient in [
        2.354_796_6e-5,
        1.017_962_5e-3,
        1.407_047e-2,
        1.109_850_5e-1,
        4.974_692_5e-1,
        1.0,
    ] {
        below = below.mul_add(square, L::splat(coefficient));
    }
    let result = x.mul(above).div(below);
    let result = limit.select_below(all, one, result);
    all.select_below(minus(limit), minus(one), result)
}

/// `x * Φ(x)` with the error function.
pub(crate) struct Gelu;
/// The approximation of [`Gelu`] by a hyperbolic tangent.
pub(crate) struct GeluTanh;
/// `x * sigmoid(1.702 x)`.
pub(crate) struct QuickGelu;
/// `x * sigmoid(x)`.
pub(crate) struct Silu;
/// `max(x, 0)`.
pub(crate) struct Relu;
/// `max(x, 0)²`.
pub(crate) struct ReluSquared;
/// Hyperbolic tangent.
pub(crate) struct Tanh;
/// `1 / (1 + exp(-x))`.
pub(crate) struct Sigmoid;
/// `x`.
pub(crate) struct Identity;

impl Function for Gelu {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        let half = x.mul(L::splat(0.5));
        half.mul(L::splat(1.0).add(erf(x.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2)))))
    }
}

impl Function for GeluTanh {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        // (1 + tanh(u)) / 2 is sigmoid(2u), with u = sqrt(2/π) (x + 0.044715 x³).
        let cubic = L::splat(0.044_715).mul_add(x.mul(x), L::splat(1.0));
        sigmoid_times(x, cubic.mul(L::splat(1.595_769)))
    }
}

impl Function for QuickGelu {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        sigmoid_times(x, L::splat(1.702))
    }
}

impl Function for Silu {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        sigmoid_times(x, L::splat(1.0))
    }
}

impl Function for Relu {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        L::splat(0.0).max(x)
    }
}

impl Function for ReluSquared {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        let x = L::splat(0.0).max(x);
        x.mul(x)
    }
}

impl Function for Tanh {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        tanh(x)
    }
}

impl Function for Sigmoid {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        let one = L::splat(1.0);
        one.div(one.add(L::splat(0.0).sub(x).exp()))
    }
}

impl Function for Identity {
    #[inline(always)]
    fn at<L: Lanes>(x: L) -> L {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::lanes::Portable;
    use crate::kernels::cpu::testing::{assert_close, numbers};

    fn check<F: Function>(exact: impl Fn(f64) -> f64) {
        let mut x: Vec<f32> = numbers(4000, 1).iter().map(|x| x * 12.0).collect();
        x.extend([0.0, -0.0, 40.0, -40.0, 1e4, -1e4, 0.3]);
        let up = numbers(x.len(), 2);
        let wanted: Vec<f32> = x.iter().map(|&x| exact(f64::from(x)) as f32).collect();
        let gated: Vec<f32> = wanted.iter().zip(&up).map(|(x, up)| x * up).collect();
        for len in [x.len(), 1, 7, 8, 1024] {
            let mut got = vec![f32::NAN; len];
            map::<F>(&x[..len], &mut got);
            assert_close(&got, &wanted[..len], 9e-7);
            gate::<F>(&x[..len], &up[..len], &mut got);
            assert_close(&got, &gated[..len], 9e-7);
            Map::<F> {
                x: &x[..len],
                out: &mut got,
                function: PhantomData,
            }
            .run::<Portable>();
            assert_close(&got, &wanted[..len], 9e-7);
        }
        let mut got = [0.0];
        map::<F>(&[f32::NAN], &mut got);
        assert!(got[0].is_nan());
    }

    #[test]
    fn every_function_is_within_single_precision_of_its_definition() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        check::<Gelu>(|x| x * 0.5 * (1.0 + candle_core::cpu::erf::erf_f64(x / 2f64.sqrt())));
        check::<GeluTanh>(|x| {
            x * 0.5
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        });
        check::<QuickGelu>(|x| x * sigmoid(1.702 * x));
        check::<Silu>(|x| x * sigmoid(x));
        check::<Relu>(|x| x.max(0.0));
        check::<ReluSquared>(|x| x.max(0.0).powi(2));
        check::<Tanh>(f64::tanh);
        check::<Sigmoid>(sigmoid);
        check::<Identity>(|x| x);
    }
}
