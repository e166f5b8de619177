//! Room for weights in huge pages. A mapped file lies in pages of 4 KiB: products that stream weights from memory then
//! wait for the address of every page, which costs about a quarter of a decode step. Which weights are kept, and in what
//! type, is left to the loader.

use super::buffer::AlignedBytes;
use super::dtype::StoredDtype;
use super::error::WeightError;
use super::host_tensor::HostTensor;
use super::matrix::Matrix;
use super::pieces::Pieces;

/// Whether the system gives huge pages to whoever asks for them.
pub fn has_huge_pages() -> bool {
    let modes = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    modes.is_ok_and(|modes| !modes.contains("[never]"))
}

/// Keeps tensors one behind the other.
#[derive(Default)]
pub struct Arena {
    pieces: Pieces,
}

impl Arena {
    /// The numbers of the tensor in that type, row-major; the pages of a file that it was mapped from are given back.
    /// What changes its type, or is unpacked, is written where it stays: an allocation of its own would begin and end in
    /// small pages, and a copy from there would go through memory once more.
    pub fn hold(
        &mut self,
        tensor: &HostTensor,
        wanted: StoredDtype,
    ) -> Result<HostTensor, WeightError> {
        if tensor.is_outline() {
            // What cannot be converted is refused as well.
            let converted = tensor.to_dtype(wanted)?;
            return HostTensor::outline_of_copy(wanted, converted.shape().to_vec());
        }
        tensor.require_rows_of(wanted)?;
        let mut bytes = self.room(wanted.bytes(tensor.elements()));
        tensor.write_as(wanted, bytes.bytes_mut())?;
        tensor.give_back_pages();
        HostTensor::owned(bytes, wanted, tensor.shape().to_vec())
    }

    /// The same of a matrix that is multiplied with, as products of this machine read it.
    pub fn hold_matrix(
        &mut self,
        tensor: &HostTensor,
        wanted: StoredDtype,
    ) -> Result<Matrix, WeightError> {
        if Matrix::suits_panels(tensor, wanted) {
            return Matrix::laid_out(tensor, wanted, |len| self.room(len));
        }
        Matrix::of_rows(self.hold(tensor, wanted)?)
    }

    fn room(&mut self, len: usize) -> AlignedBytes {
        match self.pieces.next(len) {
            Some(piece) => AlignedBytes::Piece(piece),
            None => AlignedBytes::zeroed(len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::block_format::BlockFormat;

    #[test]
    fn tensors_keep_their_numbers_wherever_they_lie() {
        let mut arena = Arena::default();
        let numbers: Vec<f32> = (0..9 << 20).map(|n| n as f32).collect();
        let large = HostTensor::from_f32(numbers, &[9, 1 << 20]);
        let cut = large.narrow(1, 3, 5).unwrap();
        let mut held = Vec::new();
        // The second copy of the large one does not fit behind the first.
        for tensor in [&cut, &large, &cut, &large, &cut] {
            let copy = arena.hold(tensor, StoredDtype::F32).unwrap();
            held.push((tensor.to_vec_f32().unwrap(), copy));
        }
        for (numbers, tensor) in held {
            assert!(tensor.is_contiguous() && tensor.is_owned());
            assert_eq!(tensor.to_vec_f32().unwrap(), numbers);
        }
    }

    #[test]
    fn what_changes_its_type_is_written_where_it_stays() {
        let mut arena = Arena::default();
        let numbers: Vec<f32> = (0..6 * 64).map(|n| n as f32 / 7.0).collect();
        let tensor = HostTensor::from_f32(numbers, &[6, 64]);
        let turned = tensor.transpose().unwrap();
        let blocks = StoredDtype::Quantised(BlockFormat::Q8_0);
        let mut end = None;
        for (tensor, wanted) in [
            (&tensor, StoredDtype::BF16),
            (&turned, StoredDtype::F16),
            (&tensor, blocks),
            (&turned, StoredDtype::F32),
        ] {
            let (held, own) = (arena.hold(tensor, wanted), tensor.to_dtype(wanted));
            let (held, own) = (held.unwrap(), own.unwrap().copied().unwrap());
            assert_eq!((held.dtype(), held.shape()), (wanted, own.shape()));
            assert_eq!(held.run(0, held.elements()), own.run(0, own.elements()));
            // Nothing lies between it and the one before but what aligns it.
            let begin = held.run(0, held.elements()).as_ptr() as usize;
            assert!(end.is_none_or(|end: usize| begin == end.next_multiple_of(64)));
            end = Some(begin + held.byte_len());
        }
        let infinite = HostTensor::from_f32(vec![f32::INFINITY; 32], &[1, 32]);
        let text = arena.hold(&infinite, blocks).unwrap_err().to_string();
        assert!(text.contains("not finite"), "{text}");
        let text = arena.hold(&turned, blocks).unwrap_err().to_string();
        assert!(text.contains("not whole blocks"), "{text}");
    }
}
