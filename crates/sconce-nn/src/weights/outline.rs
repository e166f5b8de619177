//! Tensors without numbers: a checkpoint can be laid out for a decoder, and its memory counted, before one weight is
//! read. An outline has type, shape and strides; cuts, conversions and copies of it are outlines too.

use std::sync::Arc;

use super::WeightSource;
use super::buffer::Buffer;
use super::dtype::StoredDtype;
use super::error::WeightError;
use super::host_tensor::{HostTensor, row_major};

/// A checkpoint of which only the headers are used: every tensor is an outline.
pub struct Outlines<'a>(pub &'a dyn WeightSource);

impl WeightSource for Outlines<'_> {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        self.0.outline(name)
    }

    fn has_unlisted(&self, name: &str) -> bool {
        self.0.has_unlisted(name)
    }

    fn has_outputs_as_rows(&self, name: &str) -> bool {
        self.0.has_outputs_as_rows(name)
    }

    fn total_bytes(&self) -> u64 {
        self.0.total_bytes()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

impl HostTensor {
    /// Itself without its numbers.
    pub fn outline(&self) -> Self {
        let (len, owned) = (self.buffer.len(), self.is_owned());
        let mut outline = self.clone();
        outline.buffer = Arc::new(Buffer::Outline { len, owned });
        outline
    }

    /// Whether its numbers take memory of the process's own, rather than being those of a mapped file.
    pub fn is_owned(&self) -> bool {
        match &*self.buffer {
            Buffer::Mapped(_) => false,
            Buffer::Owned(_) | Buffer::Computed(_) | Buffer::Elsewhere(_) => true,
            Buffer::Outline { owned, .. } => *owned,
        }
    }

    /// Whether it has no numbers.
    pub(super) fn is_outline(&self) -> bool {
        match &*self.buffer {
            Buffer::Outline { .. } => true,
            Buffer::Elsewhere(elsewhere) => elsewhere.is_rehearsed(),
            _ => false,
        }
    }

    /// What a copy of an outline is: row-major, owned, and an outline.
    pub(crate) fn outline_of_copy(
        dtype: StoredDtype,
        shape: Vec<usize>,
    ) -> Result<Self, WeightError> {
        let len = dtype.bytes(shape.iter().product());
        let buffer = Arc::new(Buffer::Outline { len, owned: true });
        let strides = row_major(&shape);
        Self::view(buffer, 0, dtype, shape, strides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&HostTensor) -> Result<HostTensor, WeightError>;

    fn outline() -> HostTensor {
        HostTensor::from_f32((0..12).map(|n| n as f32).collect(), &[3, 4]).outline()
    }

    #[test]
    fn outlines_are_cut_and_converted_like_what_they_stand_for() {
        let tensor = HostTensor::from_f32(vec![0.5; 12], &[3, 4]);
        let steps: [Change; 6] = [
            |tensor| tensor.narrow(1, 1, 2),
            HostTensor::transpose,
            |tensor| tensor.transpose()?.packed(),
            |tensor| tensor.to_dtype(StoredDtype::BF16),
            |tensor| tensor.select_rows(&[2, 0, 2]),
            |tensor| HostTensor::cat(&[tensor.clone(), tensor.clone()]),
        ];
        for (index, step) in steps.iter().enumerate() {
            let (real, outlined) = (step(&tensor).unwrap(), step(&outline()).unwrap());
            assert!(outlined.is_outline(), "step {index}");
            assert_eq!(outlined.shape(), real.shape(), "step {index}");
            assert_eq!(outlined.strides(), real.strides(), "step {index}");
            assert_eq!(outlined.dtype(), real.dtype(), "step {index}");
            assert_eq!(outlined.is_packed(), real.is_packed(), "step {index}");
        }
        assert!(outline().narrow(0, 2, 2).is_err());
        assert!(outline().to_dtype(StoredDtype::I8).is_err());
    }

    #[test]
    fn an_outline_has_no_numbers_and_a_large_one_takes_no_memory() {
        assert!(outline().rows().is_err());
        assert!(outline().row_bytes(1).is_empty());
        assert_eq!(outline().to_vec_f32().unwrap(), [0.0; 12]);
        let large = HostTensor::outline_of_copy(StoredDtype::F32, vec![1 << 20, 1 << 20]).unwrap();
        assert_eq!(
            large.to_dtype(StoredDtype::F16).unwrap().byte_len(),
            2 << 40
        );
    }
}
