//! Copies of tensors: packing, picking rows, joining, changing the type.
//! Plain loops over runs of numbers, which the compiler turns into vector code; called while loading, never while serving.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::blocks;
use super::buffer::{self, AlignedBytes, Buffer};
use super::dtype::{Element, StoredDtype};
use super::error::WeightError;
use super::host_tensor::HostTensor;
use crate::pulse;

/// Side of the square blocks in which a transposed view is copied, so that both sides stay in the cache.
const TILE: usize = 32;
/// Numbers that are converted at a time: 16 KiB of f32, and whole blocks of every format.
const PIECE: usize = 4096;

/// Bytes that are copied between two signs of life: a slow disk takes less than a second for them.
const COPIED: usize = 8 << 20;

/// The least number that rounds to infinity in f16: half a step above the largest finite one.
const ROUNDED_UP: f32 = 65520.0;

impl HostTensor {
    /// Itself when kernels can read it in place (see [`HostTensor::is_packed`]), else a row-major copy.
    pub fn packed(&self) -> Result<Self, WeightError> {
        if self.is_packed() {
            Ok(self.clone())
        } else {
            self.copied()
        }
    }

    /// A row-major copy without gaps in a buffer of its own.
    pub fn copied(&self) -> Result<Self, WeightError> {
        if self.is_outline() {
            return Self::outline_of_copy(self.dtype(), self.shape().to_vec());
        }
        let mut bytes = AlignedBytes::zeroed(self.byte_len());
        self.write_to(bytes.bytes_mut())?;
        Self::owned(bytes, self.dtype(), self.shape().to_vec())
    }

    /// The rows (first dimension) named by `rows`, in that order, repeats allowed; a copy.
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self, WeightError> {
        let count = self.shape().first().copied().unwrap_or(0);
        if let Some(row) = rows.iter().find(|&&row| row >= count) {
            return Err(self.layout("select_rows", format!("there is no row {row}")));
        }
        let parts = rows
            .iter()
            .map(|&row| self.narrow(0, row, 1))
            .collect::<Result<Vec<_>, _>>()?;
        if parts.is_empty() {
            return self.narrow(0, 0, 0)?.copied();
        }
        Self::cat(&parts)
    }

    /// The parts one after the other along the first dimension; a copy. All but the first dimension and the type must agree.
    pub fn cat(parts: &[Self]) -> Result<Self, WeightError> {
        let first = parts.first().ok_or_else(|| WeightError::Layout {
            operation: "cat",
            dtype: StoredDtype::F32,
            shape: Vec::new(),
            problem: "there are no parts".to_owned(),
        })?;
        let tail = first
            .shape()
            .get(1..)
            .ok_or_else(|| first.layout("cat", "scalars have no rows".to_owned()))?;
        let mut rows = 0;
        for part in parts {
            if part.shape().get(1..) != Some(tail) || part.dtype() != first.dtype() {
                return Err(first.layout(
                    "cat",
                    format!("a part is {} {:?}", part.dtype(), part.shape()),
                ));
            }
            rows += part.shape()[0];
        }
        let shape = std::iter::once(rows).chain(tail.iter().copied()).collect();
        if first.is_outline() {
            return Self::outline_of_copy(first.dtype(), shape);
        }
        let mut bytes = AlignedBytes::zeroed(parts.iter().map(Self::byte_len).sum());
        let mut rest = bytes.bytes_mut();
        for part in parts {
            let (target, later) = rest.split_at_mut(part.byte_len());
            part.write_to(target)?;
            rest = later;
        }
        Self::owned(bytes, first.dtype(), shape)
    }

    /// The numbers in another floating-point type, rounded to nearest even, or in a block format, as ggml rounds;
    /// itself when the type is the same.
    pub fn to_dtype(&self, wanted: StoredDtype) -> Result<Self, WeightError> {
        if wanted == self.dtype() {
            return Ok(self.clone());
        }
        self.require_rows_of(wanted)?;
        if self.is_outline() {
            return Self::outline_of_copy(wanted, self.shape().to_vec());
        }
        let mut bytes = AlignedBytes::zeroed(wanted.bytes(self.elements()));
        self.write_as(wanted, bytes.bytes_mut())?;
        Self::owned(bytes, wanted, self.shape().to_vec())
    }

    /// Whether a finite number of it would become infinite in that floating-point type; never for an outline.
    pub fn overflows(&self, wanted: StoredDtype) -> Result<bool, WeightError> {
        // Others hold all that f32 does, or are blocks with a scale of their own.
        if wanted != StoredDtype::F16 || self.dtype() == wanted || self.is_outline() {
            return Ok(false);
        }
        let source = self.in_order()?;
        let mut wide = [0.0; PIECE];
        for first in (0..self.elements()).step_by(PIECE) {
            let wide = &mut wide[..PIECE.min(self.elements() - first)];
            source.widen(first, wide)?;
            let over = |x: &f32| x.abs() >= ROUNDED_UP && x.is_finite();
            if wide.iter().any(over) {
                return Ok(true);
            }
            pulse::beat();
        }
        Ok(false)
    }

    /// Fails unless its numbers can be had in that type: its own, a floating-point type, or blocks that its rows fill.
    pub(super) fn require_rows_of(&self, wanted: StoredDtype) -> Result<(), WeightError> {
        match wanted {
            same if same == self.dtype() => Ok(()),
            StoredDtype::Quantised(format) => self.require_quantisable(format),
            float if float.is_float() => Ok(()),
            to => Err(WeightError::Convert {
                from: self.dtype(),
                to,
            }),
        }
    }

    /// Writes all elements row-major in that type, for which [its rows are](Self::require_rows_of), into zeroed bytes of
    /// their size that are aligned for it.
    pub(super) fn write_as(
        &self,
        wanted: StoredDtype,
        target: &mut [u8],
    ) -> Result<(), WeightError> {
        match wanted {
            same if same == self.dtype() => self.write_to(target),
            StoredDtype::Quantised(format) => self.quantise_to(format, target),
            StoredDtype::F32 => self.convert_to(target, |to, wide| to.copy_from_slice(wide)),
            StoredDtype::F64 => self.convert_to(target, |to, wide| convert(to, wide, f64::from)),
            StoredDtype::F16 => self.convert_to(target, |to: &mut [f16], wide| {
                to.convert_from_f32_slice(wide)
            }),
            StoredDtype::BF16 => {
                self.convert_to(target, |to, wide| convert(to, wide, round_to_bf16))
            }
            to => Err(WeightError::Convert {
                from: self.dtype(),
                to,
            }),
        }
    }

    /// All numbers as f32, row-major; zeros for an outline.
    pub fn to_vec_f32(&self) -> Result<Vec<f32>, WeightError> {
        let mut wide = vec![0.0; self.elements()];
        if self.is_outline() {
            return Ok(wide);
        }
        self.in_order()?.widen(0, &mut wide)?;
        Ok(wide)
    }

    /// Widens to f32 and `narrow`s from there, a piece at a time so that it stays in the cache.
    /// This is exact between float types but for f64, which is rounded twice.
    fn convert_to<T: Element>(
        &self,
        target: &mut [u8],
        narrow: impl Fn(&mut [T], &[f32]),
    ) -> Result<(), WeightError> {
        let source = self.in_order()?;
        let target = buffer::cast_mut(target).expect("aligned and made for whole numbers");
        let mut wide = [0.0; PIECE];
        for (piece, target) in target.chunks_mut(PIECE).enumerate() {
            let wide = &mut wide[..target.len()];
            source.widen(piece * PIECE, wide)?;
            narrow(target, wide);
            pulse::beat();
        }
        Ok(())
    }

    /// Itself when its numbers follow each other aligned and without gaps, else a copy.
    pub(super) fn in_order(&self) -> Result<Self, WeightError> {
        if self.is_packed() && self.is_contiguous() {
            Ok(self.clone())
        } else {
            self.copied()
        }
    }

    /// Writes numbers `first..` of a tensor `in_order` into `wide` as f32; whole blocks of a quantised one.
    pub(super) fn widen(&self, first: usize, wide: &mut [f32]) -> Result<(), WeightError> {
        let range = first..first + wide.len();
        match self.dtype() {
            StoredDtype::F32 => wide.copy_from_slice(&self.numbers()?[range]),
            StoredDtype::F16 => self.numbers::<f16>()?[range].convert_to_f32_slice(wide),
            StoredDtype::BF16 => convert(wide, &self.numbers()?[range], widen_bf16),
            StoredDtype::F64 => convert(wide, &self.numbers()?[range], |n: f64| n as f32),
            StoredDtype::I64 => convert(wide, &self.numbers()?[range], |n: i64| n as f32),
            StoredDtype::I32 => convert(wide, &self.numbers()?[range], |n: i32| n as f32),
            StoredDtype::I16 => convert(wide, &self.numbers()?[range], |n: i16| f32::from(n)),
            StoredDtype::I8 => convert(wide, &self.numbers()?[range], |n: i8| f32::from(n)),
            StoredDtype::U64 => convert(wide, &self.numbers()?[range], |n: u64| n as f32),
            StoredDtype::U32 => convert(wide, &self.numbers()?[range], |n: u32| n as f32),
            StoredDtype::U16 => convert(wide, &self.numbers()?[range], |n: u16| f32::from(n)),
            StoredDtype::U8 => convert(wide, &self.numbers()?[range], |n: u8| f32::from(n)),
            StoredDtype::Bool => convert(wide, self.run(first, wide.len()), |n: u8| {
                f32::from(u8::from(n != 0))
            }),
            StoredDtype::Quantised(format) => {
                blocks::dequantise(format, self.run(first, wide.len()), wide);
            }
        }
        Ok(())
    }

    /// Writes all elements row-major into `target`, which has their size and is zero.
    pub(super) fn write_to(&self, target: &mut [u8]) -> Result<(), WeightError> {
        if self.elements() == 0 {
            return Ok(());
        }
        if let Buffer::Computed(computed) = &*self.buffer {
            return self.compute(computed, target);
        }
        if let Buffer::Elsewhere(_) = &*self.buffer {
            return self.at_hand()?.write_to(target);
        }
        if self.is_contiguous() {
            let bytes = self.run(0, self.elements());
            for (target, bytes) in target.chunks_mut(COPIED).zip(bytes.chunks(COPIED)) {
                target.copy_from_slice(bytes);
                pulse::beat();
            }
            return Ok(());
        }
        // Two dimensions at a time: the last two, for every index of the others.
        let outer = self.shape().len().saturating_sub(2);
        let (rows, columns) = match &self.shape()[outer..] {
            [rows, columns] => (*rows, *columns),
            [columns] => (1, *columns),
            _ => (1, 1),
        };
        let mut index = vec![0; outer];
        for plane in target.chunks_exact_mut(self.dtype().bytes(rows * columns)) {
            let first = index
                .iter()
                .zip(self.strides())
                .map(|(at, stride)| at * stride)
                .sum();
            self.write_plane(plane, first, rows, columns);
            for dim in (0..outer).rev() {
                index[dim] += 1;
                if index[dim] < self.shape()[dim] {
                    break;
                }
                index[dim] = 0;
            }
        }
        Ok(())
    }

    /// Writes one matrix that begins at element `first`.
    fn write_plane(&self, target: &mut [u8], first: usize, rows: usize, columns: usize) {
        let (across, down) = match self.strides() {
            [.., down, across] => (*across, *down),
            [across] => (*across, 0),
            [] => (0, 0),
        };
        if across == 1 || columns == 1 {
            for (row, line) in target
                .chunks_exact_mut(self.dtype().bytes(columns))
                .enumerate()
            {
                line.copy_from_slice(self.run(first + row * down, columns));
                pulse::beat();
            }
            return;
        }
        let source = self.run(first, (rows - 1) * down + (columns - 1) * across + 1);
        let plane = Plane {
            rows,
            columns,
            down,
            across,
        };
        match self.dtype().size() {
            1 => plane.copy::<1>(target, source),
            2 => plane.copy::<2>(target, source),
            4 => plane.copy::<4>(target, source),
            _ => plane.copy::<8>(target, source),
        }
    }
}

/// A matrix whose columns are `across` elements apart and whose rows `down`.
struct Plane {
    rows: usize,
    columns: usize,
    down: usize,
    across: usize,
}

impl Plane {
    /// Copies it row-major, in square blocks; an element has `SIZE` bytes.
    fn copy<const SIZE: usize>(&self, target: &mut [u8], source: &[u8]) {
        let (target, _) = target.as_chunks_mut::<SIZE>();
        let (source, _) = source.as_chunks::<SIZE>();
        // Blocks pass through a buffer, because rows of the source that are a power of two apart evict each other.
        let mut block = [[[0; SIZE]; TILE]; TILE];
        for top in (0..self.rows).step_by(TILE) {
            pulse::beat();
            let bottom = self.rows.min(top + TILE);
            for left in (0..self.columns).step_by(TILE) {
                let right = self.columns.min(left + TILE);
                for (column, line) in (left..right).zip(&mut block) {
                    let from = source[top * self.down + column * self.across..].iter();
                    let numbers = from.step_by(self.down.max(1));
                    for (number, value) in line[..bottom - top].iter_mut().zip(numbers) {
                        *number = *value;
                    }
                }
                for row in 0..bottom - top {
                    let line = &mut target[(top + row) * self.columns..][left..right];
                    for (number, column) in line.iter_mut().zip(&block) {
                        *number = column[row % TILE];
                    }
                }
            }
        }
    }
}

fn convert<From: Copy, To>(target: &mut [To], numbers: &[From], convert: impl Fn(From) -> To) {
    for (target, &number) in target.iter_mut().zip(numbers) {
        *target = convert(number);
    }
}

/// The bits of a bf16 are the upper ones of an f32; `to_f32` quiets signalling NaNs first, which costs the vector code.
fn widen_bf16(number: bf16) -> f32 {
    f32::from_bits(u32::from(number.to_bits()) << 16)
}

/// As `bf16::from_f32`, written without a branch, which the compiler turns into vector code.
fn round_to_bf16(number: f32) -> bf16 {
    let bits = number.to_bits();
    let even = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    bf16::from_bits(if number.is_nan() { quiet } else { even } as u16)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::weights::buffer::Buffer;

    fn cube() -> HostTensor {
        HostTensor::from_f32((0..24).map(|n| n as f32).collect(), &[2, 3, 4])
    }

    fn f32s(numbers: &[f32]) -> HostTensor {
        HostTensor::from_slice(numbers, &[numbers.len()])
    }

    #[test]
    fn copies_of_cut_and_turned_views_are_row_major() {
        let cut = cube().narrow(1, 1, 2).unwrap().narrow(2, 3, 1).unwrap();
        assert_eq!(cut.to_vec_f32().unwrap(), [7.0, 11.0, 19.0, 23.0]);
        let matrix = HostTensor::from_f32((0..70 * 45).map(|n| n as f32).collect(), &[70, 45]);
        let turned = matrix.transpose().unwrap().copied().unwrap();
        let wanted: Vec<f32> = (0..45)
            .flat_map(|column| (0..70).map(move |row| (row * 45 + column) as f32))
            .collect();
        assert_eq!(turned.to_vec_f32().unwrap(), wanted);
        assert_eq!(
            turned.transpose().unwrap().to_vec_f32().unwrap(),
            matrix.to_vec_f32().unwrap()
        );
    }

    #[test]
    fn what_rounds_to_infinity_in_f16_is_found_and_nothing_else() {
        let below = f32::from_bits(ROUNDED_UP.to_bits() - 1);
        for (number, over) in [
            (ROUNDED_UP, true),
            (-ROUNDED_UP, true),
            (f32::MAX, true),
            (below, false),
            (-below, false),
            (f32::INFINITY, false),
            (f32::NAN, false),
        ] {
            let mut numbers = vec![0.5; 1000];
            numbers[777] = number;
            let tensor = f32s(&numbers);
            assert_eq!(
                tensor.overflows(StoredDtype::F16).unwrap(),
                over,
                "{number}"
            );
            assert!(!tensor.overflows(StoredDtype::BF16).unwrap());
            let rounded = tensor.to_dtype(StoredDtype::F16).unwrap();
            let rounded = rounded.to_vec_f32().unwrap()[777];
            assert_eq!(
                number.is_finite() && rounded.is_infinite(),
                over,
                "{number}"
            );
        }
    }

    #[test]
    fn packed_shares_what_kernels_can_read_and_copies_the_rest() {
        let matrix = cube().reshape(&[6, 4]).unwrap();
        let columns = matrix.narrow(1, 1, 2).unwrap().packed().unwrap();
        assert_eq!(columns.row_stride(), 4);
        let turned = matrix.transpose().unwrap().packed().unwrap();
        assert!(turned.is_contiguous());
        // A file may place numbers at any byte.
        let mut bytes = AlignedBytes::zeroed(9);
        bytes.bytes_mut()[1..].copy_from_slice(buffer::bytes_of(&[1.5f32, -2.0]));
        let unaligned = HostTensor::view(
            Arc::new(Buffer::Owned(bytes)),
            1,
            StoredDtype::F32,
            vec![2],
            vec![1],
        )
        .unwrap();
        assert!(!unaligned.is_packed());
        assert_eq!(unaligned.to_vec_f32().unwrap(), [1.5, -2.0]);
        assert!(unaligned.packed().unwrap().rows().is_ok());
    }

    #[test]
    fn rows_can_be_picked_repeated_and_joined() {
        let matrix = cube().reshape(&[6, 4]).unwrap();
        let picked = matrix.select_rows(&[5, 0, 5]).unwrap();
        assert_eq!(picked.shape(), [3, 4]);
        assert_eq!(
            picked.narrow(1, 0, 1).unwrap().to_vec_f32().unwrap(),
            [20.0, 0.0, 20.0]
        );
        assert!(
            matrix
                .select_rows(&[6])
                .unwrap_err()
                .to_string()
                .contains("no row 6")
        );
        assert_eq!(matrix.select_rows(&[]).unwrap().shape(), [0, 4]);
        let joined = HostTensor::cat(&[picked, matrix.clone()]).unwrap();
        assert_eq!(joined.shape(), [9, 4]);
        assert!(HostTensor::cat(&[matrix.clone(), matrix.transpose().unwrap()]).is_err());
        assert!(HostTensor::cat(&[]).is_err());
    }

    #[test]
    fn conversions_round_to_nearest_even_and_keep_infinities() {
        let exact = [
            0.0,
            -0.0,
            1.0,
            -2.5,
            65504.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        for dtype in [StoredDtype::F16, StoredDtype::F64] {
            let there = f32s(&exact).to_dtype(dtype).unwrap();
            assert_eq!(
                (there.dtype(), there.to_vec_f32().unwrap().as_slice()),
                (dtype, &exact[..])
            );
        }
        // 1 + 2^-8 lies between two bf16 numbers, and the even one is below; 1 + 3·2^-8 has it above.
        let halves = f32s(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0])
            .to_dtype(StoredDtype::BF16)
            .unwrap();
        assert_eq!(halves.to_vec_f32().unwrap(), [1.0, 1.015_625]);
        assert!(
            f32s(&[f32::NAN])
                .to_dtype(StoredDtype::BF16)
                .unwrap()
                .to_vec_f32()
                .unwrap()[0]
                .is_nan()
        );
        assert_eq!(
            HostTensor::from_slice(&[-3i64, 4], &[2])
                .to_vec_f32()
                .unwrap(),
            [-3.0, 4.0]
        );
        assert!(f32s(&[1.0]).to_dtype(StoredDtype::I8).is_err());
    }

    #[test]
    fn rounding_to_bf16_agrees_with_the_reference_around_every_number() {
        for upper in 0..=u16::MAX {
            for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let number = f32::from_bits(u32::from(upper) << 16 | lower);
                assert_eq!(
                    round_to_bf16(number).to_bits(),
                    bf16::from_f32_const(number).to_bits(),
                    "{number:?}"
                );
            }
        }
    }

    #[test]
    fn every_half_precision_number_is_widened_as_defined() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let brains: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let wide = HostTensor::from_slice(&halves, &[halves.len()])
            .to_vec_f32()
            .unwrap();
        assert!(
            wide.iter()
                .zip(&halves)
                .all(|(got, want)| *got == want.to_f32_const() || want.is_nan() && got.is_nan())
        );
        let wide = HostTensor::from_slice(&brains, &[brains.len()])
            .to_vec_f32()
            .unwrap();
        assert!(
            wide.iter()
                .zip(&brains)
                .all(|(got, want)| *got == want.to_f32_const() || want.is_nan() && got.is_nan())
        );
    }
}
