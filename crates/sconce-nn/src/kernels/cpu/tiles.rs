//! Products with bf16 weights on Intel's matrix unit (AMX), in the precision of f32.
//!
//! The unit multiplies tiles of bf16 numbers and sums in f32. An f32 number is the sum of three bf16 numbers of eight
//! bits each, so three such products, one for each piece of `x`, add up to the product in f32: the weights are bf16 as
//! they are stored. That is three times the work at sixteen times the rate of fused multiply-adds in 512-bit vectors.
//!
//! Every output is summed over `k` in chunks of 32, each piece for itself, and the pieces from the smallest to the
//! largest: the same bits for any number of rows. Subnormal weights and pieces count as zero, which the unit prescribes.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

use half::bf16;

use super::operand::Operand;
use super::parallel::{self, Shared};
use super::{pool, scratch};

/// Rows of a tile, and f32 numbers in one of its rows.
const SIDE: usize = 16;
/// Elements of `k` in a tile.
const CHUNK: usize = 32;
/// bf16 numbers of a tile.
const TILE: usize = SIDE * CHUNK;
/// bf16 numbers that sum up to an f32.
const PIECES: usize = 3;
/// So many rows of `x` fit with all their pieces into the sixteen columns of one tile.
const FEW: usize = SIDE / PIECES;
/// Weight rows that are computed with at once: for few rows of `x`, and for many.
const BLOCK_FEW: usize = 4 * SIDE;
const BLOCK_MANY: usize = 2 * SIDE;
/// Bytes of weights that a task reads for each group of rows: they stay in the second-level cache.
const PANEL_BYTES: usize = 512 << 10;
/// Tasks for each thread: enough to even out threads of unequal speed.
const TASKS_PER_THREAD: usize = 4;

/// `m` rows of `x` of `k` numbers, `n` rows of weights; lengths were checked.
struct Operands<'a> {
    x: &'a [f32],
    weights: &'a [bf16],
    /// Elements from one row of weights to the next.
    stride: usize,
    m: usize,
    n: usize,
    k: usize,
    bias: Option<&'a [f32]>,
    out: &'a Shared<f32>,
}

/// Whether this machine has the unit and a matrix of this shape suits it. The number of rows of `x` has no say.
pub(super) fn suits(n: usize, k: usize) -> bool {
    n >= BLOCK_FEW && k > 0 && k.is_multiple_of(CHUNK) && is_available()
}

/// Asks the processor for the instructions and Linux for the permission to use the tiles' registers.
fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        const LEAF: u32 = 7;
        const BF16_TILES: u32 = 1 << 22 | 1 << 24;
        let has_tiles = is_x86_feature_detected!("avx512f")
            && __cpuid(0).eax >= LEAF
            && __cpuid_count(LEAF, 0).edx & BF16_TILES == BF16_TILES;
        has_tiles && permitted()
    })
}

#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a system call without pointers.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Computes the product. Only where [`suits`].
pub(super) fn matmul(x: &[f32], k: usize, operand: &Operand<'_, bf16>) {
    if operand.m == 0 {
        return;
    }
    let operands = Operands {
        x,
        weights: operand.weights,
        stride: operand.stride,
        m: operand.m,
        n: operand.n,
        k,
        bias: operand.bias,
        out: &operand.out,
    };
    let groups = operands.groups();
    let packed = groups * operands.chunks() * operands.pieces_of_group() * TILE;
    // Two bf16 numbers in the place of one f32, and a line more to begin at one.
    scratch::with(packed / 2 + SIDE, |room| {
        let packed = aligned(room, packed);
        operands.pack(packed);
        let (tasks, rows) = operands.cut();
        pool::run(tasks, &|task| {
            let start = task * rows;
            let end = (start + rows).min(operands.n);
            // SAFETY: `suits` has asked for the unit.
            unsafe { operands.panel(packed, start, end) };
        });
    });
}

/// `len` bf16 numbers in `room`, from the first line of the cache on.
fn aligned(room: &mut [f32], len: usize) -> &mut [u16] {
    // SAFETY: any bits are a u16, and a line's beginning is aligned for it.
    let (_, lines, _) = unsafe { room.align_to_mut::<Line>() };
    let (_, numbers, _) = unsafe { lines.align_to_mut::<u16>() };
    &mut numbers[..len]
}

/// A line of the cache.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([f32; SIDE]);

/// The tiles' registers are configured while this lives.
struct Tiles;

impl Tiles {
    /// Eight tiles of sixteen rows of 64 bytes.
    ///
    /// # Safety
    /// The machine has the unit.
    unsafe fn configure() -> Self {
        #[repr(C, align(64))]
        struct Palette([u8; 64]);
        const ALL: Palette = {
            let mut bytes = [0; 64];
            bytes[0] = 1;
            let mut tile = 0;
            while tile < 8 {
                bytes[16 + 2 * tile] = 64;
                bytes[48 + tile] = SIDE as u8;
                tile += 1;
            }
            Palette(bytes)
        };
        // SAFETY: promised by the caller.
        unsafe { asm!("ldtilecfg [{}]", in(reg) ALL.0.as_ptr(), options(nostack, readonly)) };
        Self
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: whoever made this has the unit.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Sums of several tiles.
#[repr(C, align(64))]
struct Sums<const TILES: usize>([[[f32; SIDE]; SIDE]; TILES]);

impl Operands<'_> {
    fn chunks(&self) -> usize {
        self.k / CHUNK
    }

    fn has_few_rows(&self) -> bool {
        self.m <= FEW
    }

    /// Groups of rows of `x` that are computed with at once.
    fn groups(&self) -> usize {
        self.m.div_ceil(SIDE)
    }

    /// Tiles of a group for each chunk: the pieces of few rows lie side by side in one.
    fn pieces_of_group(&self) -> usize {
        if self.has_few_rows() { 1 } else { PIECES }
    }

    /// Number of tasks, and weight rows of each.
    fn cut(&self) -> (usize, usize) {
        let block = if self.has_few_rows() {
            BLOCK_FEW
        } else {
            BLOCK_MANY
        };
        let threads = pool::threads();
        let worth_it = threads > 1 && self.m * self.n * self.k >= parallel::WORTH_A_FORK;
        let even = if worth_it {
            self.n.div_ceil(threads * TASKS_PER_THREAD)
        } else {
            self.n
        };
        let fitting = (PANEL_BYTES / (self.k * size_of::<bf16>())).max(block);
        let most = if self.groups() == 1 { self.n } else { fitting };
        let rows = even.min(most).next_multiple_of(block);
        (self.n.div_ceil(rows), rows)
    }

    /// Cuts `x` into pieces, in the order in which tiles are loaded: groups, chunks, pieces.
    fn pack(&self, packed: &mut [u16]) {
        let size = self.chunks() * self.pieces_of_group() * TILE;
        let packed = Shared::new(packed);
        let tasks = if self.m * self.k < parallel::WORTH_A_FORK {
            1
        } else {
            self.groups()
        };
        pool::run(tasks, &|task| {
            let groups = if tasks == 1 {
                0..self.groups()
            } else {
                task..task + 1
            };
            for group in groups {
                // SAFETY: groups do not overlap, and `packed` is borrowed during the call.
                let tiles = unsafe { packed.part(group * size, size) };
                // SAFETY: `suits` has asked for AVX-512.
                unsafe { self.pack_group(group * SIDE, tiles) };
            }
        });
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn pack_group(&self, first: usize, tiles: &mut [u16]) {
        let rows = SIDE.min(self.m - first);
        let of_chunk = self.pieces_of_group() * TILE;
        let few = self.has_few_rows();
        if few || rows < SIDE {
            // Columns without a row are multiplied too.
            tiles.fill(0);
        }
        for row in 0..rows {
            let x = &self.x[(first + row) * self.k..][..self.k];
            for (pair, x) in x.as_chunks::<2>().0.iter().enumerate() {
                let chunk = &mut tiles[pair / SIDE * of_chunk..][..of_chunk];
                let (one, other) = (pieces(x[0]), pieces(x[1]));
                for piece in 0..PIECES {
                    let (tile, column) = if few {
                        (0, row * PIECES + piece)
                    } else {
                        (piece, row)
                    };
                    let at = tile * TILE + pair % SIDE * CHUNK + column * 2;
                    chunk[at] = one[piece];
                    chunk[at + 1] = other[piece];
                }
            }
        }
    }

    /// Weight rows `start..end` against all rows of `x`.
    ///
    /// # Safety
    /// The machine has the unit; no other task writes these columns of `out`.
    unsafe fn panel(&self, packed: &[u16], start: usize, end: usize) {
        // SAFETY: promised by the caller.
        let _tiles = unsafe { Tiles::configure() };
        if self.has_few_rows() {
            for block in (start..end).step_by(BLOCK_FEW) {
                // SAFETY: as above.
                unsafe { self.block_few(packed, block, end) };
            }
            return;
        }
        let size = self.chunks() * PIECES * TILE;
        for group in 0..self.groups() {
            let packed = &packed[group * size..][..size];
            for block in (start..end).step_by(BLOCK_MANY) {
                // SAFETY: as above.
                unsafe { self.block_many(packed, group * SIDE, block, end) };
            }
        }
    }

    /// Few rows of `x` against weight rows from `block` on, those before `end`.
    unsafe fn block_few(&self, packed: &[u16], block: usize, end: usize) {
        // The last block begins earlier instead of ending later; what is not its own is not stored.
        let first = block.min(self.n - BLOCK_FEW);
        let mut sums = Sums([[[0.0; SIDE]; SIDE]; 4]);
        // SAFETY: rows `first..first + 64` of `k` elements are in the weights, `suits` says that there are so many.
        unsafe {
            four_by_one(
                self.weights_at(first),
                self.stride,
                self.chunks(),
                packed,
                &mut sums,
            )
        };
        for row in 0..self.m {
            let len = end.min(first + BLOCK_FEW) - block;
            // SAFETY: the columns are this task's.
            let out = unsafe { self.out.part(row * self.n + block, len) };
            for (index, out) in out.iter_mut().enumerate() {
                let sums = &sums.0.as_flattened()[block - first + index][row * PIECES..][..PIECES];
                *out = (sums[2] + sums[1]) + sums[0];
            }
            self.add_bias(out, block);
        }
    }

    /// The rows of a group from `row` on against weight rows from `block` on, those before `end`.
    unsafe fn block_many(&self, packed: &[u16], row: usize, block: usize, end: usize) {
        let first = block.min(self.n - BLOCK_MANY);
        let mut sums = Sums([[[0.0; SIDE]; SIDE]; 2 * PIECES]);
        // SAFETY: rows `first..first + 32` of `k` elements are in the weights.
        unsafe {
            two_by_three(
                self.weights_at(first),
                self.stride,
                self.chunks(),
                packed,
                &mut sums,
            )
        };
        let len = end.min(first + BLOCK_MANY) - block;
        // SAFETY: `suits` has asked for AVX-512.
        let turned = unsafe { add_and_turn(&sums) };
        for (index, turned) in turned.0.iter().enumerate().take(self.m - row) {
            // SAFETY: the columns are this task's.
            let out = unsafe { self.out.part((row + index) * self.n + block, len) };
            out.copy_from_slice(&turned.as_flattened()[block - first..][..len]);
            self.add_bias(out, block);
        }
    }

    fn add_bias(&self, out: &mut [f32], column: usize) {
        if let Some(bias) = self.bias {
            out.iter_mut()
                .zip(&bias[column..])
                .for_each(|(out, bias)| *out += bias);
        }
    }

    fn weights_at(&self, row: usize) -> *const bf16 {
        self.weights[row * self.stride..].as_ptr()
    }
}

/// Three bf16 numbers that sum up to `x`, the largest first, as bits. Infinities have no rest.
#[inline(always)]
fn pieces(x: f32) -> [u16; PIECES] {
    let mut rest = x;
    [(); PIECES].map(|()| {
        let piece = bf16::from_f32(rest);
        rest = if piece.is_finite() {
            rest - piece.to_f32()
        } else {
            0.0
        };
        piece.to_bits()
    })
}

/// Adds the pieces of two rows of tiles and turns rows and columns: `[row of x][tile][row of weights]`.
#[target_feature(enable = "avx512f")]
fn add_and_turn(sums: &Sums<{ 2 * PIECES }>) -> Turned {
    let mut turned = Turned([[[0.0; SIDE]; 2]; SIDE]);
    for tile in 0..2 {
        let [large, middle, small] = [0, 1, 2].map(|piece| &sums.0[tile * PIECES + piece]);
        let mut rows = [_mm512_setzero_ps(); SIDE];
        for (row, added) in rows.iter_mut().enumerate() {
            // SAFETY: whole rows of sixteen numbers.
            let [large, middle, small] =
                [large, middle, small].map(|tile| unsafe { _mm512_loadu_ps(tile[row].as_ptr()) });
            *added = _mm512_add_ps(_mm512_add_ps(small, middle), large);
        }
        for (row, numbers) in transpose(rows).into_iter().enumerate() {
            // SAFETY: a whole row of sixteen numbers.
            unsafe { _mm512_storeu_ps(turned.0[row][tile].as_mut_ptr(), numbers) };
        }
    }
    turned
}

/// Sums by row of `x`, then by tile and row of weights.
#[repr(C, align(64))]
struct Turned([[[f32; SIDE]; 2]; SIDE]);

/// Column `c` of the rows as vector `c`.
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512; SIDE]) -> [__m512; SIDE] {
    let zero = _mm512_setzero_ps();
    let mut pairs = [zero; SIDE];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    // Of four rows, within each quarter of a vector, one column.
    let mut quads = [zero; SIDE];
    for i in 0..4 {
        for half in 0..2 {
            let (one, other) = (pairs[4 * i + half], pairs[4 * i + 2 + half]);
            quads[4 * i + 2 * half] = _mm512_shuffle_ps::<0x44>(one, other);
            quads[4 * i + 2 * half + 1] = _mm512_shuffle_ps::<0xee>(one, other);
        }
    }
    let mut columns = [zero; SIDE];
    for i in 0..4 {
        let low = _mm512_shuffle_f32x4::<0x88>(quads[i], quads[4 + i]);
        let high = _mm512_shuffle_f32x4::<0xdd>(quads[i], quads[4 + i]);
        let low_end = _mm512_shuffle_f32x4::<0x88>(quads[8 + i], quads[12 + i]);
        let high_end = _mm512_shuffle_f32x4::<0xdd>(quads[8 + i], quads[12 + i]);
        columns[i] = _mm512_shuffle_f32x4::<0x88>(low, low_end);
        columns[8 + i] = _mm512_shuffle_f32x4::<0xdd>(low, low_end);
        columns[4 + i] = _mm512_shuffle_f32x4::<0x88>(high, high_end);
        columns[12 + i] = _mm512_shuffle_f32x4::<0xdd>(high, high_end);
    }
    columns
}

/// Four tiles of weight rows, from `weights` on, times the one tile of a group.
///
/// # Safety
/// 64 rows of `chunks * 32` weights are readable, and the tiles are configured.
unsafe fn four_by_one(
    weights: *const bf16,
    stride: usize,
    chunks: usize,
    packed: &[u16],
    sums: &mut Sums<4>,
) {
    debug_assert_eq!(packed.len(), chunks * TILE);
    // SAFETY: promised by the caller; `packed` has a tile for each chunk.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            "tileloadd tmm6, [{x} + {line}]",
            "tileloadd tmm4, [{w0} + {stride}]", "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{w1} + {stride}]", "tdpbf16ps tmm1, tmm5, tmm6",
            "tileloadd tmm4, [{w2} + {stride}]", "tdpbf16ps tmm2, tmm4, tmm6",
            "tileloadd tmm5, [{w3} + {stride}]", "tdpbf16ps tmm3, tmm5, tmm6",
            "add {w0}, 64", "add {w1}, 64", "add {w2}, 64", "add {w3}, 64", "add {x}, 1024",
            "dec {chunks}", "jnz 2b",
            "tilestored [{sums} + {line}], tmm0", "tilestored [{sums} + {line} + 1024], tmm1",
            "tilestored [{sums} + {line} + 2048], tmm2", "tilestored [{sums} + {line} + 3072], tmm3",
            w0 = inout(reg) weights => _,
            w1 = inout(reg) weights.add(SIDE * stride) => _,
            w2 = inout(reg) weights.add(2 * SIDE * stride) => _,
            w3 = inout(reg) weights.add(3 * SIDE * stride) => _,
            stride = in(reg) stride * size_of::<bf16>(),
            x = inout(reg) packed.as_ptr() => _,
            line = in(reg) size_of::<Line>(),
            chunks = inout(reg) chunks => _,
            sums = in(reg) sums,
            options(nostack),
        );
    }
}

/// Two tiles of weight rows, from `weights` on, times the tiles of the three pieces of a group.
///
/// # Safety
/// 32 rows of `chunks * 32` weights are readable, and the tiles are configured.
unsafe fn two_by_three(
    weights: *const bf16,
    stride: usize,
    chunks: usize,
    packed: &[u16],
    sums: &mut Sums<{ 2 * PIECES }>,
) {
    debug_assert_eq!(packed.len(), chunks * PIECES * TILE);
    // SAFETY: promised by the caller; `packed` has three tiles for each chunk.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2",
            "tilezero tmm3", "tilezero tmm4", "tilezero tmm5",
            "2:",
            "tileloadd tmm6, [{w0} + {stride}]",
            "tileloadd tmm7, [{x} + {line}]", "tdpbf16ps tmm0, tmm6, tmm7",
            "tileloadd tmm7, [{x} + {line} + 1024]", "tdpbf16ps tmm1, tmm6, tmm7",
            "tileloadd tmm7, [{x} + {line} + 2048]", "tdpbf16ps tmm2, tmm6, tmm7",
            "tileloadd tmm6, [{w1} + {stride}]",
            "tdpbf16ps tmm5, tmm6, tmm7",
            "tileloadd tmm7, [{x} + {line} + 1024]", "tdpbf16ps tmm4, tmm6, tmm7",
            "tileloadd tmm7, [{x} + {line}]", "tdpbf16ps tmm3, tmm6, tmm7",
            "add {w0}, 64", "add {w1}, 64", "add {x}, 3072",
            "dec {chunks}", "jnz 2b",
            "tilestored [{sums} + {line}], tmm0", "tilestored [{sums} + {line} + 1024], tmm1",
            "tilestored [{sums} + {line} + 2048], tmm2", "tilestored [{sums} + {line} + 3072], tmm3",
            "tilestored [{sums} + {line} + 4096], tmm4", "tilestored [{sums} + {line} + 5120], tmm5",
            w0 = inout(reg) weights => _,
            w1 = inout(reg) weights.add(SIDE * stride) => _,
            stride = in(reg) stride * size_of::<bf16>(),
            x = inout(reg) packed.as_ptr() => _,
            line = in(reg) size_of::<Line>(),
            chunks = inout(reg) chunks => _,
            sums = in(reg) sums,
            options(nostack),
        );
    }
}
