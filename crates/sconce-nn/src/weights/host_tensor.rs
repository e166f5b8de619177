//! `HostTensor`: a read-only view of numbers in a mapped file or an owned buffer, with zero-copy cuts.
//! Copies and changes of type are in `convert`.

use std::fmt;
use std::sync::Arc;

use super::block_format::BlockFormat;
use super::buffer::{self, AlignedBytes, Buffer, Compute, Computed};
use super::dtype::{Element, StoredDtype};
use super::error::WeightError;

/// An n-dimensional read-only view; clones and views share the bytes.
#[derive(Clone)]
pub struct HostTensor {
    pub(super) buffer: Arc<Buffer>,
    /// Where element zero begins in the buffer, in bytes.
    pub(super) offset: usize,
    dtype: StoredDtype,
    pub(super) shape: Vec<usize>,
    /// Distance of neighbours along each dimension, in elements. Of a quantised tensor the neighbours of the last
    /// dimension touch, and all other distances are whole blocks, as is the last dimension.
    pub(super) strides: Vec<usize>,
}

/// The numbers of a matrix in place: row `r` begins at element `r * stride`.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [half::f16]),
    /// Upper half of single precision.
    BF16(&'a [half::bf16]),
}

/// The blocks of a quantised matrix in place: row `r` begins at byte `r * stride`.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    /// What the bytes mean.
    pub format: BlockFormat,
    /// All of them, gaps between rows included.
    pub bytes: &'a [u8],
    /// Bytes from the beginning of a row to that of the next.
    pub stride: usize,
}

impl HostTensor {
    /// A view of `shape` at `offset` bytes into `buffer`; fails when any element lies outside it.
    pub(crate) fn view(
        buffer: Arc<Buffer>,
        offset: usize,
        dtype: StoredDtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self, WeightError> {
        let tensor = Self {
            buffer,
            offset,
            dtype,
            shape,
            strides,
        };
        tensor.require_whole_blocks("view")?;
        let held = tensor.buffer.len();
        // Overlapping elements can make the packed size larger than the buffer; it must be a number all the same.
        let packed = tensor.shape.iter().filter(|&&dim| dim > 0);
        let packed = packed.copied().try_fold(dtype.size(), usize::checked_mul);
        let end = span(&tensor.shape, &tensor.strides)
            .and_then(|elements| dtype.checked_bytes(elements))
            .and_then(|bytes| bytes.checked_add(offset))
            .filter(|_| packed.is_some());
        match end {
            Some(end) if end <= held && tensor.strides.len() == tensor.shape.len() => Ok(tensor),
            _ => Err(tensor.layout(
                "view",
                format!(
                    "strides {:?} from byte {offset} leave the {held} bytes of the buffer",
                    tensor.strides
                ),
            )),
        }
    }

    /// A row-major tensor over a fresh copy of bytes.
    pub(crate) fn owned(
        bytes: AlignedBytes,
        dtype: StoredDtype,
        shape: Vec<usize>,
    ) -> Result<Self, WeightError> {
        let strides = row_major(&shape);
        Self::view(Arc::new(Buffer::Owned(bytes)), 0, dtype, shape, strides)
    }

    /// A matrix that is computed when it is copied: no kernel reads it in place, but it can be cut like any other.
    pub(super) fn computed(
        matrix: Box<dyn Compute>,
        dtype: StoredDtype,
        shape: [usize; 2],
    ) -> Result<Self, WeightError> {
        let [rows, columns] = shape;
        let len = rows.saturating_mul(dtype.bytes(columns));
        let buffer = Buffer::Computed(Computed {
            len,
            columns,
            matrix,
        });
        Self::view(
            Arc::new(buffer),
            0,
            dtype,
            shape.to_vec(),
            row_major(&shape),
        )
    }

    /// A row-major f32 tensor of numbers at hand.
    ///
    /// # Panics
    /// When `data` has not as many numbers as `shape`.
    pub fn from_f32(data: Vec<f32>, shape: &[usize]) -> Self {
        Self::from_slice(&data, shape)
    }

    /// A row-major tensor of any stored type, copied from numbers at hand.
    ///
    /// # Panics
    /// When `data` has not as many numbers as `shape`.
    pub fn from_slice<T: Element>(data: &[T], shape: &[usize]) -> Self {
        let wanted = shape
            .iter()
            .try_fold(1usize, |product, &dim| product.checked_mul(dim));
        assert_eq!(
            Some(data.len()),
            wanted,
            "the numbers do not fill shape {shape:?}"
        );
        let mut bytes = AlignedBytes::zeroed(size_of_val(data));
        bytes.bytes_mut().copy_from_slice(buffer::bytes_of(data));
        Self::owned(bytes, T::DTYPE, shape.to_vec()).expect("the buffer was made for the shape")
    }

    /// A row-major quantised tensor, copied from blocks at hand; fails unless they are as many as `shape` needs.
    pub fn from_blocks(
        format: BlockFormat,
        blocks: &[u8],
        shape: &[usize],
    ) -> Result<Self, WeightError> {
        let mut bytes = AlignedBytes::zeroed(blocks.len());
        bytes.bytes_mut().copy_from_slice(blocks);
        Self::owned(bytes, StoredDtype::Quantised(format), shape.to_vec())
    }

    /// Sizes of the dimensions; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Distances of neighbours along each dimension, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The stored element type.
    pub fn dtype(&self) -> StoredDtype {
        self.dtype
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes the elements take when packed.
    pub fn byte_len(&self) -> usize {
        self.dtype.bytes(self.elements())
    }

    /// Elements `start..start + len` of one dimension; a view. The last dimension of a quantised tensor can be cut
    /// between blocks only, see [`Self::can_narrow`].
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self, WeightError> {
        let size = *self
            .shape
            .get(dim)
            .ok_or_else(|| self.layout("narrow", format!("there is no dimension {dim}")))?;
        if start.checked_add(len).is_none_or(|end| end > size) {
            return Err(self.layout(
                "narrow",
                format!("{len} elements from {start} leave dimension {dim}"),
            ));
        }
        if !self.can_narrow(dim, start, len) {
            let block = self.dtype.per_block();
            return Err(self.layout(
                "narrow",
                format!(
                    "{len} elements from {start} of dimension {dim} begin or end within a block of {block}; \
                     cut at multiples of {block}, or convert the tensor to a floating-point type first"
                ),
            ));
        }
        let mut cut = self.clone();
        cut.shape[dim] = len;
        // An empty cut keeps its offset: it may begin past the last element.
        if cut.elements() > 0 {
            cut.offset += self.dtype.bytes(start * self.strides[dim]);
        }
        Ok(cut)
    }

    /// Whether a cut of that dimension lies between blocks, as every cut of unquantised tensors does.
    pub fn can_narrow(&self, dim: usize, start: usize, len: usize) -> bool {
        let block = self.dtype.per_block();
        dim + 1 < self.shape.len() || start.is_multiple_of(block) && len.is_multiple_of(block)
    }

    /// The matrix with rows and columns exchanged: a view, or for a quantised one an f32 copy, for blocks lie along rows.
    pub fn transpose(&self) -> Result<Self, WeightError> {
        if self.shape.len() != 2 {
            return Err(self.layout("transpose", "two dimensions are needed".to_owned()));
        }
        if self.dtype.is_quantised() {
            return self.to_dtype(StoredDtype::F32)?.transpose();
        }
        let mut turned = self.clone();
        turned.shape.reverse();
        turned.strides.reverse();
        Ok(turned)
    }

    /// A tensor `[outputs, channels, ..]` as the matrix `[outputs, .. * channels]`, channels side by side; a copy, unless
    /// there is but one place for each channel.
    pub fn channels_last(&self) -> Result<Self, WeightError> {
        let [outputs, channels, ..] = *self.shape else {
            let problem = "outputs and channels are needed".to_owned();
            return Err(self.layout("channels_last", problem));
        };
        let places: usize = self.shape[2..].iter().product();
        let mut turned = self.reshape(&[outputs, channels, places])?;
        turned.shape.swap(1, 2);
        turned.strides.swap(1, 2);
        let turned = if places == 1 {
            turned
        } else {
            turned.copied()?
        };
        turned.reshape(&[outputs, places * channels])
    }

    /// The same numbers in row-major order under another shape; a view, so the tensor must be contiguous.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self, WeightError> {
        let wanted = shape
            .iter()
            .try_fold(1usize, |product, &dim| product.checked_mul(dim));
        if wanted != Some(self.elements()) {
            return Err(self.layout(
                "reshape",
                format!("{shape:?} has another number of elements"),
            ));
        }
        if !self.is_contiguous() {
            return Err(self.layout("reshape", "the rows are apart, pack them first".to_owned()));
        }
        let mut other = self.clone();
        other.strides = row_major(shape);
        other.shape = shape.to_vec();
        other.require_whole_blocks("reshape")?;
        Ok(other)
    }

    /// Whether the elements follow each other in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.elements() == 0 || same_strides(&self.shape, &self.strides, &row_major(&self.shape))
    }

    /// Whether kernels can read it in place: neighbours of the last dimension touch, and numbers are aligned.
    pub fn is_packed(&self) -> bool {
        let touching = match (self.shape.last(), self.strides.last()) {
            (Some(&size), Some(&stride)) => size <= 1 || stride == 1,
            _ => true,
        };
        let alignment = match self.dtype {
            // Blocks have odd sizes, so kernels read them byte by byte.
            StoredDtype::Quantised(_) => 1,
            plain => plain.size(),
        };
        if matches!(*self.buffer, Buffer::Computed(_) | Buffer::Elsewhere(_)) && !self.is_outline()
        {
            return self.elements() == 0;
        }
        let address = self.buffer.address() + self.offset;
        self.elements() == 0 || (touching && address.is_multiple_of(alignment))
    }

    /// Distance between the beginnings of two rows of a matrix, in elements; the length for a vector.
    pub fn row_stride(&self) -> usize {
        match (self.shape.as_slice(), self.strides.as_slice()) {
            // A single row has no neighbour, whatever the file says.
            ([0 | 1, columns], _) => *columns,
            ([_, _], [stride, _]) => *stride,
            (shape, _) => shape.last().copied().unwrap_or(1),
        }
    }

    /// Bytes of one row of a packed matrix.
    ///
    /// Nothing for an outline.
    ///
    /// # Panics
    /// When the tensor is not a packed matrix or has no such row.
    pub fn row_bytes(&self, row: usize) -> &[u8] {
        assert!(
            self.shape.len() == 2 && self.is_packed() && row < self.shape[0],
            "row {row} of a tensor of shape {:?} and strides {:?}",
            self.shape,
            self.strides
        );
        self.run(row * self.row_stride(), self.shape[1])
    }

    /// The numbers of a packed float matrix (or vector: one row) in place, and the distance of rows in elements.
    pub fn rows(&self) -> Result<(Rows<'_>, usize), WeightError> {
        let rows = match self.dtype {
            StoredDtype::F32 => Rows::F32(self.numbers()?),
            StoredDtype::F16 => Rows::F16(self.numbers()?),
            StoredDtype::BF16 => Rows::BF16(self.numbers()?),
            _ => {
                return Err(self.layout(
                    "rows",
                    "kernels read float32, float16 and bfloat16".to_owned(),
                ));
            }
        };
        Ok((rows, self.row_stride()))
    }

    /// The blocks of a quantised matrix (or vector: one row) in place.
    pub fn blocks(&self) -> Result<Blocks<'_>, WeightError> {
        let StoredDtype::Quantised(format) = self.dtype else {
            return Err(self.layout("blocks", "it is not quantised".to_owned()));
        };
        if self.elements() > 0 && self.is_outline() {
            return Err(self.layout("blocks", "an outline has none".to_owned()));
        }
        if self.shape.len() > 2 && !self.is_contiguous() {
            return Err(self.layout(
                "blocks",
                "more than two dimensions must be contiguous".to_owned(),
            ));
        }
        if !self.is_packed() {
            return Err(self.layout("blocks", "they are not there, pack them first".to_owned()));
        }
        Ok(Blocks {
            format,
            bytes: self.run(0, span(&self.shape, &self.strides).unwrap_or(0)),
            stride: self.dtype.bytes(self.row_stride()),
        })
    }

    /// The numbers of a packed matrix or vector in place, from the first element to the last, gaps between rows included.
    pub fn numbers<T: Element>(&self) -> Result<&[T], WeightError> {
        if T::DTYPE != self.dtype {
            return Err(self.layout("numbers", format!("they were asked for as {}", T::DTYPE)));
        }
        if self.elements() == 0 {
            return Ok(&[]);
        }
        if self.is_outline() {
            return Err(self.layout("numbers", "an outline has none".to_owned()));
        }
        if self.shape.len() > 2 && !self.is_contiguous() {
            return Err(self.layout(
                "numbers",
                "more than two dimensions must be contiguous".to_owned(),
            ));
        }
        if !self.is_packed() {
            return Err(self.layout(
                "numbers",
                "the rows are scattered or unaligned, pack them first".to_owned(),
            ));
        }
        buffer::cast(self.run(0, span(&self.shape, &self.strides).unwrap_or(0)))
            .ok_or_else(|| self.layout("numbers", "unaligned".to_owned()))
    }

    /// Bytes of `len` touching elements from element `first`, counted from element zero of the view; whole blocks.
    /// Nothing for an outline, or where nothing is computed yet.
    pub(crate) fn run(&self, first: usize, len: usize) -> &[u8] {
        if !matches!(*self.buffer, Buffer::Owned(_) | Buffer::Mapped(_)) {
            return &[];
        }
        let begin = self.offset + self.dtype.bytes(first);
        &self.buffer.bytes()[begin..begin + self.dtype.bytes(len)]
    }

    /// Writes the elements of a [computed](Self::computed) matrix, which has some, row-major into zeroed bytes.
    pub(super) fn compute(
        &self,
        computed: &Computed,
        target: &mut [u8],
    ) -> Result<(), WeightError> {
        let row_bytes = self.dtype.bytes(computed.columns);
        let (row, begin) = (self.offset / row_bytes, self.offset % row_bytes);
        let column = begin / self.dtype.size() * self.dtype.per_block();
        match (&*self.shape, &*self.strides) {
            (&[rows, columns], &[down, 1]) if down == computed.columns => {
                let (rows, columns) = (row..row + rows, column..column + columns);
                computed.matrix.write(rows, columns, target);
                Ok(())
            }
            // Turned or folded.
            _ => {
                let mut bytes = AlignedBytes::zeroed(computed.len);
                let (rows, columns) = (0..computed.len / row_bytes, 0..computed.columns);
                computed.matrix.write(rows, columns, bytes.bytes_mut());
                let mut whole = self.clone();
                whole.buffer = Arc::new(Buffer::Owned(bytes));
                whole.write_to(target)
            }
        }
    }

    /// Fails when rows or their distances are not whole blocks of a quantised type.
    fn require_whole_blocks(&self, operation: &'static str) -> Result<(), WeightError> {
        let block = self.dtype.per_block();
        if block == 1 {
            return Ok(());
        }
        let Some((&width, outer)) = self.shape.split_last() else {
            return Err(self.layout(
                operation,
                format!("a scalar is no block of {block} numbers"),
            ));
        };
        if !width.is_multiple_of(block) {
            return Err(self.layout(
                operation,
                format!("rows of {width} numbers are not whole blocks of {block}"),
            ));
        }
        let apart = |(&size, &stride): (&usize, &usize)| size > 1 && !stride.is_multiple_of(block);
        if self.strides.last() != Some(&1) || outer.iter().zip(&self.strides).any(apart) {
            return Err(self.layout(
                operation,
                format!("strides {:?} lead into blocks of {block}", self.strides),
            ));
        }
        Ok(())
    }

    /// Takes the pages of a mapped file that the elements lie in out of this process' memory.
    pub(crate) fn give_back_pages(&self) {
        let elements = span(&self.shape, &self.strides).unwrap_or(0);
        self.buffer
            .give_back(self.offset, self.dtype.bytes(elements));
    }

    pub(crate) fn layout(&self, operation: &'static str, problem: String) -> WeightError {
        WeightError::Layout {
            operation,
            dtype: self.dtype,
            shape: self.shape.clone(),
            problem,
        }
    }
}

impl fmt::Debug for HostTensor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HostTensor")
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .field("strides", &self.strides)
            .finish_non_exhaustive()
    }
}

/// Strides of a tensor without gaps.
pub(crate) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim].saturating_mul(shape[dim]);
    }
    strides
}

/// Elements from the first to the last one inclusive, or `None` when that overflows.
pub(crate) fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(0usize, |last, (&dim, &stride)| {
            last.checked_add((dim - 1).checked_mul(stride)?)
        })?;
    last.checked_add(1)
}

/// Whether two sets of strides address the same elements: dimensions of size one do not matter.
fn same_strides(shape: &[usize], left: &[usize], right: &[usize]) -> bool {
    shape
        .iter()
        .zip(left.iter().zip(right))
        .all(|(&dim, (left, right))| dim == 1 || left == right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> HostTensor {
        HostTensor::from_f32((0..12).map(|n| n as f32).collect(), &[3, 4])
    }

    #[test]
    fn narrowed_columns_stay_packed_and_keep_the_row_stride() {
        let cut = matrix().narrow(1, 1, 2).unwrap();
        assert!(cut.is_packed() && !cut.is_contiguous());
        let (Rows::F32(numbers), stride) = cut.rows().unwrap() else {
            unreachable!()
        };
        assert_eq!((numbers.len(), stride), (10, 4));
        assert_eq!(numbers[2 * stride..2 * stride + 2], [9.0, 10.0]);
        assert_eq!(cut.row_bytes(1), buffer::bytes_of(&[5.0f32, 6.0]));
    }

    #[test]
    fn a_transposed_view_is_not_packed_until_it_is_copied() {
        let turned = matrix().transpose().unwrap();
        assert_eq!(turned.shape(), [4, 3]);
        assert!(
            turned
                .rows()
                .unwrap_err()
                .to_string()
                .contains("pack them first")
        );
        let copy = turned.packed().unwrap();
        assert_eq!(copy.row_bytes(1), buffer::bytes_of(&[1.0f32, 5.0, 9.0]));
    }

    #[test]
    fn cuts_outside_the_shape_are_refused_and_empty_cuts_are_not() {
        assert!(matrix().narrow(0, 2, 2).is_err());
        assert!(matrix().narrow(0, usize::MAX, 2).is_err());
        assert!(matrix().narrow(2, 0, 1).is_err());
        let empty = matrix().narrow(0, 3, 0).unwrap();
        assert_eq!((empty.elements(), empty.rows().unwrap().1), (0, 4));
        assert!(matches!(empty.rows().unwrap().0, Rows::F32([])));
    }

    #[test]
    fn a_view_beyond_the_buffer_or_beyond_usize_is_refused() {
        let buffer = Arc::new(Buffer::Owned(AlignedBytes::zeroed(16)));
        let view = |shape: &[usize], strides: &[usize]| {
            HostTensor::view(
                buffer.clone(),
                0,
                StoredDtype::F32,
                shape.to_vec(),
                strides.to_vec(),
            )
        };
        assert!(view(&[2, 2], &[2, 1]).is_ok());
        assert!(view(&[2, 2], &[3, 1]).is_err());
        assert!(view(&[usize::MAX, 2], &[0, 0]).is_err());
        assert!(view(&[2, 2], &[usize::MAX, 1]).is_err());
        assert!(view(&[1 << 40, 1 << 40, 0], &[1, 1, 1]).is_err());
        assert!(view(&[2], &[2, 1]).is_err());
    }

    #[test]
    fn a_scalar_and_a_vector_are_one_row() {
        let scalar = HostTensor::from_f32(vec![2.0], &[]);
        assert!(matches!(scalar.rows().unwrap(), (Rows::F32([2.0]), 1)));
        let vector = HostTensor::from_slice(&[1i64, 2, 3], &[3]);
        assert_eq!(
            (vector.row_stride(), vector.numbers::<i64>().unwrap()),
            (3, &[1, 2, 3][..])
        );
        assert!(vector.rows().is_err());
    }
}
