//! Rows of stored matrices: picked, and compared.

use sconce_nn::weights::{HostTensor, WeightError};

use super::load_error::LoadError;

/// These rows of a weight or a bias: a view where they follow each other, else a copy.
pub(crate) fn picked(tensor: &HostTensor, rows: &[usize]) -> Result<HostTensor, WeightError> {
    let adjacent = rows.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    Ok(match rows {
        [first, ..] if adjacent => tensor.narrow(0, *first, rows.len())?,
        // Row by row, each would be fetched for itself where they are elsewhere.
        _ => tensor.at_hand()?.select_rows(rows)?,
    })
}

/// Whether two matrices have the same numbers.
pub(super) fn are_same(one: &HostTensor, other: &HostTensor) -> Result<bool, LoadError> {
    if one.shape() != other.shape() {
        return Ok(false);
    }
    let in_place = one.dtype() == other.dtype() && one.is_packed() && other.is_packed();
    for row in 0..one.shape()[0] {
        let same = if in_place {
            one.row_bytes(row) == other.row_bytes(row)
        } else {
            let numbers = |tensor: &HostTensor| tensor.narrow(0, row, 1)?.to_vec_f32();
            numbers(one)? == numbers(other)?
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}
