//! Copies of tensors: packing, picking rows, joining, changing the type.
//! Plain loops over runs of numbers, which the compiler turns into vector code; called while loading, never while serving.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::buffer::{self, AlignedBytes};
use super::dtype::{Element, StoredDtype};
use super::error::WeightError;
use super::host_tensor::HostTensor;

/// Side of the square blocks in which a transposed view is copied, so that both sides stay in the cache.
const TILE: usize = 32;

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
        let mut bytes = AlignedBytes::zeroed(self.byte_len());
        self.write_to(bytes.bytes_mut());
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
        let mut bytes = AlignedBytes::zeroed(parts.iter().map(Self::byte_len).sum());
        let mut rest = bytes.bytes_mut();
        for part in parts {
            let (target, later) = rest.split_at_mut(part.byte_len());
            part.write_to(target);
            rest = later;
        }
        let shape = std::iter::once(rows).chain(tail.iter().copied()).collect();
        Self::owned(bytes, first.dtype(), shape)
    }

    /// The numbers in another floating-point type, rounded to nearest even; itself when the type is the same.
    pub fn to_dtype(&self, wanted: StoredDtype) -> Result<Self, WeightError> {
        if wanted == self.dtype() {
            return Ok(self.clone());
        }
        match wanted {
            StoredDtype::F32 => Ok(Self::from_f32(self.to_vec_f32()?, self.shape())),
            StoredDtype::F64 => self.from_numbers(f64::from),
            StoredDtype::F16 => self.from_numbers(f16::from_f32),
            StoredDtype::BF16 => self.from_numbers(bf16::from_f32),
            other => Err(WeightError::Convert {
                from: self.dtype(),
                to: other,
            }),
        }
    }

    /// All numbers as f32, row-major.
    pub fn to_vec_f32(&self) -> Result<Vec<f32>, WeightError> {
        let source = if self.is_packed() && self.is_contiguous() {
            self.clone()
        } else {
            self.copied()?
        };
        let flat = source.reshape(&[source.elements()])?;
        let mut wide = vec![0.0; flat.elements()];
        match self.dtype() {
            StoredDtype::F32 => wide.copy_from_slice(flat.numbers()?),
            StoredDtype::F16 => flat.numbers::<f16>()?.convert_to_f32_slice(&mut wide),
            StoredDtype::BF16 => widen(&mut wide, flat.numbers()?, |n: bf16| {
                f32::from_bits(u32::from(n.to_bits()) << 16)
            }),
            StoredDtype::F64 => widen(&mut wide, flat.numbers()?, |n: f64| n as f32),
            StoredDtype::I64 => widen(&mut wide, flat.numbers()?, |n: i64| n as f32),
            StoredDtype::I32 => widen(&mut wide, flat.numbers()?, |n: i32| n as f32),
            StoredDtype::I16 => widen(&mut wide, flat.numbers()?, |n: i16| f32::from(n)),
            StoredDtype::I8 => widen(&mut wide, flat.numbers()?, |n: i8| f32::from(n)),
            StoredDtype::U64 => widen(&mut wide, flat.numbers()?, |n: u64| n as f32),
            StoredDtype::U32 => widen(&mut wide, flat.numbers()?, |n: u32| n as f32),
            StoredDtype::U16 => widen(&mut wide, flat.numbers()?, |n: u16| f32::from(n)),
            StoredDtype::U8 => widen(&mut wide, flat.numbers()?, |n: u8| f32::from(n)),
            StoredDtype::Bool => widen(&mut wide, flat.run(0, flat.elements()), |n: u8| {
                f32::from(u8::from(n != 0))
            }),
        }
        Ok(wide)
    }

    /// Widens to f32 and narrows from there: exact for every pair of float types but f64, which rounds twice.
    fn from_numbers<T: Element>(&self, convert: impl Fn(f32) -> T) -> Result<Self, WeightError> {
        let wide = self.to_vec_f32()?;
        let mut bytes = AlignedBytes::zeroed(wide.len() * size_of::<T>());
        let narrow =
            buffer::cast_mut::<T>(bytes.bytes_mut()).expect("owned buffers are aligned and whole");
        for (target, number) in narrow.iter_mut().zip(wide) {
            *target = convert(number);
        }
        Self::owned(bytes, T::DTYPE, self.shape().to_vec())
    }

    /// Writes all elements row-major into `target`, which has their size.
    fn write_to(&self, target: &mut [u8]) {
        if self.elements() == 0 {
            return;
        }
        if self.is_contiguous() {
            return target.copy_from_slice(self.run(0, self.elements()));
        }
        // Two dimensions at a time: the last two, for every index of the others.
        let outer = self.shape().len().saturating_sub(2);
        let (rows, columns) = match &self.shape()[outer..] {
            [rows, columns] => (*rows, *columns),
            [columns] => (1, *columns),
            _ => (1, 1),
        };
        let mut index = vec![0; outer];
        for plane in target.chunks_exact_mut(rows * columns * self.dtype().size()) {
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
    }

    /// Writes one matrix that begins at element `first`.
    fn write_plane(&self, target: &mut [u8], first: usize, rows: usize, columns: usize) {
        let size = self.dtype().size();
        let (across, down) = match self.strides() {
            [.., down, across] => (*across, *down),
            [across] => (*across, 0),
            [] => (0, 0),
        };
        if across == 1 || columns == 1 {
            for (row, line) in target.chunks_exact_mut(columns * size).enumerate() {
                line.copy_from_slice(self.run(first + row * down, columns));
            }
            return;
        }
        for top in (0..rows).step_by(TILE) {
            for left in (0..columns).step_by(TILE) {
                for row in top..rows.min(top + TILE) {
                    for column in left..columns.min(left + TILE) {
                        let at = (row * columns + column) * size;
                        target[at..at + size]
                            .copy_from_slice(self.run(first + row * down + column * across, 1));
                    }
                }
            }
        }
    }
}

fn widen<T: Copy>(wide: &mut [f32], numbers: &[T], convert: impl Fn(T) -> f32) {
    for (target, &number) in wide.iter_mut().zip(numbers) {
        *target = convert(number);
    }
}
