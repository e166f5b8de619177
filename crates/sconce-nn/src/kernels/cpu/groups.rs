//! Normalisation of images over groups of channels, `[pixels, channels]` each. Sums are taken of some pixels at a time,
//! at fixed places of the image, and added in their order, so that the bits do not depend on threads or neighbours.
#![allow(unsafe_code)]

use super::elementwise::{Function, Identity, Silu};
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::parallel::{self, Shared};
use super::pool;

/// Pixels whose sums are taken together.
const CHUNK: usize = 128;

/// Elementary operations per element, for deciding about a fork.
const COST: usize = 4;

/// What is done to each image.
pub(crate) struct Groups<'a> {
    pub(crate) groups: usize,
    /// `[channels]`, as is the bias.
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) eps: f32,
    /// `[images, channels]`, added to every pixel before.
    pub(crate) plus: Option<&'a [f32]>,
    /// Whether `x * sigmoid(x)` follows.
    pub(crate) silu: bool,
}

/// Normalises each of the `images` of `x` into `out`.
pub(crate) fn normalise(x: &[f32], images: usize, how: &Groups<'_>, out: &mut [f32]) {
    let channels = how.weight.len();
    let pixels = x.len() / channels / images.max(1);
    if out.is_empty() {
        return;
    }
    let factors = factors(x, images, pixels, how);
    parallel::over_rows(out, channels, channels * COST * 2, &|first, out| {
        let mut done = 0;
        while done < out.len() / channels {
            let row = first + done;
            let image = row / pixels;
            // As far as the image goes.
            let rows = (out.len() / channels - done).min((image + 1) * pixels - row);
            let [scale, shift] = parts(&factors[image * 2 * channels..], channels);
            let change = Change {
                x: &x[row * channels..][..rows * channels],
                scale,
                shift,
                out: &mut out[done * channels..][..rows * channels],
                function: std::marker::PhantomData::<Identity>,
            };
            if how.silu {
                dispatch(change.with::<Silu>());
            } else {
                dispatch(change);
            }
            done += rows;
        }
    });
}

fn parts(both: &[f32], channels: usize) -> [&[f32]; 2] {
    let (one, other) = both.split_at(channels);
    [one, &other[..channels]]
}

/// For each image the factor and the summand of each channel.
fn factors(x: &[f32], images: usize, pixels: usize, how: &Groups<'_>) -> Vec<f32> {
    let channels = how.weight.len();
    let chunks = pixels.div_ceil(CHUNK);
    let mut sums = vec![0.0; images * chunks * 2 * channels];
    let shared = Shared::new(&mut sums);
    let tasks = images * chunks;
    let (tasks, run) = parallel::cut(tasks, CHUNK * channels * COST);
    pool::run(tasks, &|task| {
        for index in task * run..(images * chunks).min((task + 1) * run) {
            let (image, chunk) = (index / chunks, index % chunks);
            let image = &x[image * pixels * channels..][..pixels * channels];
            let from = chunk * CHUNK * channels;
            let to = image.len().min(from + CHUNK * channels);
            // SAFETY: each chunk has sums of its own and belongs to one task.
            let sums = unsafe { shared.part(index * 2 * channels, 2 * channels) };
            let (sum, squares) = sums.split_at_mut(channels);
            dispatch(Moments {
                x: &image[from..to],
                // Distances from the first pixel keep their precision where the mean is large.
                centre: &image[..channels],
                sum,
                squares,
            });
        }
    });
    let mut factors = vec![0.0; images * 2 * channels];
    for (image, factors) in factors.chunks_exact_mut(2 * channels).enumerate() {
        let sums = &sums[image * chunks * 2 * channels..][..chunks * 2 * channels];
        let first = &x[image * pixels * channels..][..channels];
        let plus = how.plus.map(|plus| &plus[image * channels..][..channels]);
        of_image(sums, first, plus, pixels, how, factors);
    }
    factors
}

/// Factors and summands of one image, of its sums.
fn of_image(
    sums: &[f32],
    first: &[f32],
    plus: Option<&[f32]>,
    pixels: usize,
    how: &Groups<'_>,
    factors: &mut [f32],
) {
    let channels = first.len();
    let each = channels / how.groups;
    let added = |channel: usize| plus.map_or(0.0, |plus| f64::from(plus[channel]));
    // The mean of a channel and the mean of its squared distances from it.
    let moments = |channel: usize| {
        let total = |from: usize| -> f64 {
            let of_chunks = sums.iter().skip(from + channel).step_by(2 * channels);
            of_chunks.map(|sum| f64::from(*sum)).sum::<f64>() / pixels as f64
        };
        let (mean, squares) = (total(0), total(channels));
        let centre = f64::from(first[channel]) + added(channel);
        (centre + mean, (squares - mean * mean).max(0.0))
    };
    let (scales, shifts) = factors.split_at_mut(channels);
    for group in 0..how.groups {
        let all: Vec<(f64, f64)> = (group * each..(group + 1) * each).map(moments).collect();
        let mean = all.iter().map(|(mean, _)| mean).sum::<f64>() / each as f64;
        let spread = |(own, variance): &(f64, f64)| variance + (own - mean) * (own - mean);
        let variance = all.iter().map(spread).sum::<f64>() / each as f64;
        let factor = 1.0 / (variance + f64::from(how.eps)).sqrt();
        for channel in group * each..(group + 1) * each {
            let scale = factor * f64::from(how.weight[channel]);
            scales[channel] = scale as f32;
            let shift = f64::from(how.bias[channel]) + (added(channel) - mean) * scale;
            shifts[channel] = shift as f32;
        }
    }
}

/// Sums of the distances of pixels from a centre, and of their squares, channel by channel.
struct Moments<'a> {
    x: &'a [f32],
    centre: &'a [f32],
    sum: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Kernel for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let channels = self.centre.len();
        let whole = channels - channels % LANES;
        for from in (0..whole).step_by(LANES) {
            let part =
                |x: &[f32]| -> [f32; LANES] { x[from..from + LANES].try_into().expect("eight") };
            let centre = L::load(&part(self.centre));
            let (mut sum, mut squares) = (L::splat(0.0), L::splat(0.0));
            for pixel in self.x.chunks_exact(channels) {
                let vector = pixel[from..from + LANES]
                    .first_chunk()
                    .expect("eight numbers");
                let distance = L::load(vector).sub(centre);
                sum = sum.add(distance);
                squares = distance.mul_add(distance, squares);
            }
            sum.store(self.sum[from..].first_chunk_mut().expect("eight numbers"));
            squares.store(
                self.squares[from..]
                    .first_chunk_mut()
                    .expect("eight numbers"),
            );
        }
        for channel in whole..channels {
            let (mut sum, mut squares) = (0.0, 0.0);
            for pixel in self.x.chunks_exact(channels) {
                let distance = pixel[channel] - self.centre[channel];
                sum += distance;
                squares += distance * distance;
            }
            (self.sum[channel], self.squares[channel]) = (sum, squares);
        }
    }
}

/// `F(x * scale + shift)`, channel by channel.
struct Change<'a, F> {
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    out: &'a mut [f32],
    function: std::marker::PhantomData<F>,
}

impl<'a, F> Change<'a, F> {
    fn with<G>(self) -> Change<'a, G> {
        Change {
            x: self.x,
            scale: self.scale,
            shift: self.shift,
            out: self.out,
            function: std::marker::PhantomData,
        }
    }
}

impl<F: Function> Kernel for Change<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let channels = self.scale.len();
        let (scales, scale_rest) = self.scale.as_chunks::<LANES>();
        let (shifts, shift_rest) = self.shift.as_chunks::<LANES>();
        let pixels = self.x.chunks_exact(channels);
        for (x, out) in pixels.zip(self.out.chunks_exact_mut(channels)) {
            let (xs, x_rest) = x.as_chunks::<LANES>();
            let (outs, out_rest) = out.as_chunks_mut::<LANES>();
            let factors = scales.iter().zip(shifts);
            for ((x, out), (scale, shift)) in xs.iter().zip(outs).zip(factors) {
                let changed = L::load(x).mul_add(L::load(scale), L::load(shift));
                F::at(changed).store(out);
            }
            if !x_rest.is_empty() {
                let rest = L::load_partial(x_rest)
                    .mul_add(L::load_partial(scale_rest), L::load_partial(shift_rest));
                F::at(rest).store_partial(out_rest);
            }
        }
    }
}
