//! Convolutions of three by three pixels in sixteen products for every four outputs instead of thirty-six: the minimal
//! filtering F(2 × 2, 3 × 3) of Lavin and Gray (2016). Weights that lie in panels are transformed anew for each image, in
//! room of their own, so that memory holds them once.
//!
//! A tile of two by two outputs is computed from four by four inputs at its own place, so its bits do not depend on what is
//! beside it.
#![allow(unsafe_code)]

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::lanes::{Kernel, Lanes, dispatch};
use super::matmul::matmul;
use super::operand::{Layout, Matrix, Part, Precision};
use super::panels::COLUMNS;
use super::parallel::{self, Shared};
use super::patches::Patches;
use super::pool;
use crate::tensors;
use crate::weights::{Rows, StoredDtype};

/// Numbers of a transformed tile, and products for each.
const PLACES: usize = 16;

/// Bytes of transformed tiles and their products that are there at a time.
const BAND_BYTES: usize = 8 << 20;

/// Bytes of transformed weights, at most.
const WEIGHT_BYTES: usize = 64 << 20;

/// Tiles of an image that transforming the weights pays for, at least.
const FEWEST_TILES: usize = 128;

/// Channels that the products pay for, at least: with few the transforms take longer than what they save.
const FEWEST_CHANNELS: usize = 32;

/// Bytes that a convolution takes beside its input and output, at most.
pub(crate) const SCRATCH: usize = BAND_BYTES + WEIGHT_BYTES;

/// Weights of a layer that are multiplied in f32.
pub(crate) struct Weights<'a> {
    /// Panels of `[outputs, 9 * channels]`.
    pub(crate) panels: &'a [u32],
    pub(crate) dtype: StoredDtype,
    pub(crate) bias: Option<&'a [f32]>,
}

/// A convolution that keeps the size.
pub(crate) struct Winograd<'a> {
    pub(crate) weights: Weights<'a>,
    pub(crate) outputs: usize,
    pub(crate) patches: &'a Patches,
}

/// Whether a convolution of that many channels and outputs of images of that size is computed so, be it of one image or more.
pub(crate) fn suits(channels: usize, outputs: usize, [height, width]: [usize; 2]) -> bool {
    let tiles = height.div_ceil(2) * width.div_ceil(2);
    channels >= FEWEST_CHANNELS
        && outputs >= FEWEST_CHANNELS
        && channels.is_multiple_of(2)
        && tiles >= FEWEST_TILES
        && PLACES * channels * outputs * size_of::<f32>() <= WEIGHT_BYTES
}

impl Winograd<'_> {
    /// Convolves images; `out` is `[images, height, width, outputs]`.
    pub(crate) fn run(&self, images: &[f32], out: &mut [f32]) {
        let (channels, outputs) = (self.patches.input[2], self.outputs);
        let [height, width] = self.patches.output;
        let weights = self.transformed();
        let [down, across] = [height.div_ceil(2), width.div_ceil(2)];
        let tiles = out.len() / (height * width * outputs) * down * across;
        let band = BAND_BYTES / (PLACES * (channels + outputs) * size_of::<f32>());
        let band = band.clamp(1, tiles.max(1));
        // SAFETY: both are written before they are read.
        let (mut seen, mut made) = unsafe {
            (
                tensors::unwritten(PLACES * band * channels),
                tensors::unwritten(PLACES * band * outputs),
            )
        };
        let out = Shared::new(out);
        for first in (0..tiles).step_by(band) {
            let count = band.min(tiles - first);
            let seen = &mut seen[..PLACES * count * channels];
            self.see(images, first, count, seen);
            let made = &mut made[..PLACES * count * outputs];
            let products = seen.chunks_exact(count * channels);
            let products = products.zip(made.chunks_exact_mut(count * outputs));
            for ((seen, made), weights) in products.zip(weights.chunks_exact(channels * outputs)) {
                let part = Part {
                    matrix: Matrix {
                        numbers: Rows::F32(weights),
                        layout: Layout::Panels,
                        n: outputs,
                        k: channels,
                    },
                    precision: Precision::Exact,
                    bias: None,
                    out: made,
                };
                matmul(seen, &mut [part]);
            }
            self.give(made, first, count, &out);
        }
    }

    /// Transformed weights: for each place panels of `[outputs, channels]`.
    fn transformed(&self) -> Vec<f32> {
        let (channels, outputs) = (self.patches.input[2], self.outputs);
        let each = channels * outputs;
        // SAFETY: every panel of every place is written.
        let mut all = unsafe { tensors::unwritten(PLACES * each) };
        let to = Shared::new(&mut all);
        let panels = outputs.div_ceil(COLUMNS);
        pool::run(panels, &|panel| {
            let first = panel * COLUMNS;
            let lanes = COLUMNS.min(outputs - first);
            let words = self.weights.panels.len() / outputs;
            let panel = &self.weights.panels[first * words..][..lanes * words];
            dispatch(Transform {
                panel,
                dtype: self.weights.dtype,
                channels,
                lanes,
                // SAFETY: the panel's part of each place belongs to this task.
                to: &|place| unsafe { to.part(place * each + first * channels, lanes * channels) },
            });
        });
        all
    }

    /// Transforms what tiles see, `[16, tiles, channels]`.
    fn see(&self, images: &[f32], first: usize, count: usize, to: &mut [f32]) {
        let channels = self.patches.input[2];
        let to = Shared::new(to);
        let (tasks, run) = parallel::cut(count, PLACES * channels);
        pool::run(tasks, &|task| {
            let (mut lines, zeros) = (Vec::with_capacity(PLACES), vec![0.0; channels]);
            for tile in task * run..count.min((task + 1) * run) {
                let (image, y, x) = self.place(first + tile);
                lines.clear();
                lines.extend((0..PLACES).map(|at| {
                    let found = self.patches.pixel(images, image, [y + at / 4, x + at % 4]);
                    found.unwrap_or(&zeros)
                }));
                dispatch(See {
                    lines: &lines,
                    channels,
                    // SAFETY: the tile's rows belong to this task.
                    to: &|place| unsafe { to.part((place * count + tile) * channels, channels) },
                });
            }
        });
    }

    /// Makes outputs of products `[16, tiles, outputs]`.
    fn give(&self, made: &[f32], first: usize, count: usize, out: &Shared<f32>) {
        let outputs = self.outputs;
        let [height, width] = self.patches.output;
        let (tasks, run) = parallel::cut(count, PLACES * outputs);
        pool::run(tasks, &|task| {
            for tile in task * run..count.min((task + 1) * run) {
                let (image, y, x) = self.place(first + tile);
                dispatch(Give {
                    made: &|place| &made[(place * count + tile) * outputs..][..outputs],
                    bias: self.weights.bias,
                    to: &|at| {
                        let (y, x) = (y + at / 2, x + at % 2);
                        let pixel = (image * height + y) * width + x;
                        // SAFETY: a pixel belongs to one tile, and that to this task.
                        (y < height && x < width)
                            .then(|| unsafe { out.part(pixel * outputs, outputs) })
                    },
                });
            }
        });
    }

    /// The image of a tile, and its first output.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let [down, across] = self.patches.output.map(|side| side.div_ceil(2));
        let (image, tile) = (tile / (down * across), tile % (down * across));
        (image, tile / across * 2, tile % across * 2)
    }
}

/// The weights of a panel: `G g Gᵀ`.
struct Transform<'a, To> {
    panel: &'a [u32],
    dtype: StoredDtype,
    channels: usize,
    lanes: usize,
    to: &'a To,
}

/// Weights of nine places by lanes.
type Nine = [[f32; COLUMNS]; 9];

impl<'t, To: Fn(usize) -> &'t mut [f32]> Kernel for Transform<'_, To> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (lanes, channels) = (self.lanes, self.channels);
        let mut nine: Nine = [[0.0; COLUMNS]; 9];
        let to: [&mut [f32]; PLACES] = std::array::from_fn(|place| (self.to)(place));
        for channel in 0..channels {
            for (place, numbers) in nine.iter_mut().enumerate() {
                self.widen(place * channels + channel, numbers);
            }
            // First along the columns, then along the rows.
            let mut half = [[0.0; COLUMNS]; 12];
            for column in 0..3 {
                for lane in 0..COLUMNS {
                    let [a, b, c] = [0, 3, 6].map(|row| nine[row + column][lane]);
                    let (ends, middle) = (0.5 * (a + c), 0.5 * b);
                    half[column][lane] = a;
                    half[3 + column][lane] = ends + middle;
                    half[6 + column][lane] = ends - middle;
                    half[9 + column][lane] = c;
                }
            }
            for row in 0..4 {
                let mut whole = [[0.0; COLUMNS]; 4];
                for lane in 0..COLUMNS {
                    let [a, b, c] = [0, 1, 2].map(|column| half[3 * row + column][lane]);
                    let (ends, middle) = (0.5 * (a + c), 0.5 * b);
                    whole[0][lane] = a;
                    whole[1][lane] = ends + middle;
                    whole[2][lane] = ends - middle;
                    whole[3][lane] = c;
                }
                for (column, whole) in whole.iter().enumerate() {
                    to[4 * row + column][channel * lanes..][..lanes]
                        .copy_from_slice(&whole[..lanes]);
                }
            }
        }
    }
}

impl<To> Transform<'_, To> {
    /// The weights of all lanes at a place in `k`.
    #[inline(always)]
    fn widen(&self, k: usize, to: &mut [f32; COLUMNS]) {
        let per_word = size_of::<u32>() / self.dtype.size();
        let words = &self.panel[k / per_word * self.lanes..][..self.lanes];
        // The first of two is in the lower half.
        let shift = 16 * (k % per_word);
        match self.dtype {
            StoredDtype::F16 => {
                let mut halves = [f16::ZERO; COLUMNS];
                for (half, word) in halves.iter_mut().zip(words) {
                    *half = f16::from_bits((word >> shift) as u16);
                }
                halves.convert_to_f32_slice(to);
            }
            StoredDtype::BF16 => {
                for (to, word) in to.iter_mut().zip(words) {
                    *to = f32::from_bits(word >> shift << 16);
                }
            }
            _ => {
                for (to, word) in to.iter_mut().zip(words) {
                    *to = f32::from_bits(*word);
                }
            }
        }
    }
}

/// What a tile sees: `Bᵀ d B`, for sixteen lines of channels.
struct See<'a, To> {
    lines: &'a [&'a [f32]],
    channels: usize,
    to: &'a To,
}

/// Channels that are transformed together: two vectors of the widest.
const CHANNELS: usize = 32;

impl<'t, To: Fn(usize) -> &'t mut [f32]> Kernel for See<'_, To> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let to: [&mut [f32]; PLACES] = std::array::from_fn(|place| (self.to)(place));
        for first in (0..self.channels).step_by(CHANNELS) {
            let count = CHANNELS.min(self.channels - first);
            let mut half = [[0.0; CHANNELS]; PLACES];
            for column in 0..4 {
                let [a, b, c, d] =
                    [0, 4, 8, 12].map(|row| &self.lines[row + column][first..first + count]);
                for lane in 0..count {
                    half[column][lane] = a[lane] - c[lane];
                    half[4 + column][lane] = b[lane] + c[lane];
                    half[8 + column][lane] = c[lane] - b[lane];
                    half[12 + column][lane] = b[lane] - d[lane];
                }
            }
            for row in 0..4 {
                let mut whole = [[0.0; CHANNELS]; 4];
                for lane in 0..CHANNELS {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|column| half[4 * row + column][lane]);
                    whole[0][lane] = a - c;
                    whole[1][lane] = b + c;
                    whole[2][lane] = c - b;
                    whole[3][lane] = b - d;
                }
                for (column, whole) in whole.iter().enumerate() {
                    to[4 * row + column][first..first + count].copy_from_slice(&whole[..count]);
                }
            }
        }
    }
}

/// The outputs of a tile: `Aᵀ m A`, and the bias.
struct Give<'a, Made, To> {
    made: &'a Made,
    bias: Option<&'a [f32]>,
    to: &'a To,
}

impl<'m, 't, Made, To> Kernel for Give<'_, Made, To>
where
    Made: Fn(usize) -> &'m [f32],
    To: Fn(usize) -> Option<&'t mut [f32]>,
{
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let made: [&[f32]; PLACES] = std::array::from_fn(|place| (self.made)(place));
        let mut to: [Option<&mut [f32]>; 4] = std::array::from_fn(|at| (self.to)(at));
        let outputs = made[0].len();
        for first in (0..outputs).step_by(CHANNELS) {
            let count = CHANNELS.min(outputs - first);
            let mut half = [[0.0; CHANNELS]; 8];
            for column in 0..4 {
                let [a, b, c, d] =
                    [0, 4, 8, 12].map(|row| &made[row + column][first..first + count]);
                for lane in 0..count {
                    half[column][lane] = a[lane] + b[lane] + c[lane];
                    half[4 + column][lane] = b[lane] - c[lane] - d[lane];
                }
            }
            let mut bias = [0.0; CHANNELS];
            if let Some(all) = self.bias {
                bias[..count].copy_from_slice(&all[first..first + count]);
            }
            for row in 0..2 {
                let [a, b, c, d] = [0, 1, 2, 3].map(|column| half[4 * row + column]);
                if let Some(to) = &mut to[2 * row] {
                    for (lane, to) in to[first..first + count].iter_mut().enumerate() {
                        *to = a[lane] + b[lane] + c[lane] + bias[lane];
                    }
                }
                if let Some(to) = &mut to[2 * row + 1] {
                    for (lane, to) in to[first..first + count].iter_mut().enumerate() {
                        *to = b[lane] - c[lane] - d[lane] + bias[lane];
                    }
                }
            }
        }
    }
}
