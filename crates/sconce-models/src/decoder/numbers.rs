//! Which type numbers have where all of a model have one: on GPUs, where activations, keys and values follow the matrices.

use candle_core::{DType, Tensor};
use sconce_nn::KvDtype;
use sconce_nn::weights::{Matrix, StoredDtype, WeightSource};

use super::load::{LoadOptions, Loader};
use super::load_error::LoadError;
use super::slots::Slot;
use super::tensors::Tensors;
use crate::arch::Arch;

impl Loader<'_> {
    /// The matrix on the device that computes.
    pub(super) fn on_device(&self, slot: Slot, matrix: Matrix) -> Result<Matrix, LoadError> {
        let tensor = || format!("the tensor of {slot:?}");
        let placed = matrix.on(&self.device, "a matrix");
        placed.map_err(|cause| LoadError::Layer {
            tensor: tensor(),
            cause,
        })
    }

    /// Numbers that are computed with activations, where those are.
    pub(super) fn beside_activations(&self, numbers: Tensor) -> candle_core::Result<Tensor> {
        let dtype = match self.numbers {
            Some(StoredDtype::F16) => DType::F16,
            Some(StoredDtype::BF16) => DType::BF16,
            _ => DType::F32,
        };
        numbers.to_dtype(dtype)?.to_device(&self.device)
    }
}

/// A checkpoint that is read for a family.
pub(super) fn tensors_of<'a>(
    arch: &'static Arch,
    source: &'a dyn WeightSource,
    progress: &'a mut dyn FnMut(u64, u64),
) -> Tensors<'a> {
    let landmark = arch.names_of(Slot::Embed).next();
    Tensors::new(source, landmark.unwrap_or_default(), progress)
}

/// What keys and values are kept as.
pub(super) fn cache_dtype(
    arch: &'static Arch,
    source: &dyn WeightSource,
    options: &LoadOptions,
) -> KvDtype {
    if !options.for_gpu {
        return options.cache;
    }
    let mut nobody = |_, _| {};
    kept_as(one_type(
        arch,
        &tensors_of(arch, source, &mut nobody),
        options.dtype,
    ))
}

/// The type of keys and values beside activations of a type.
pub(super) fn kept_as(numbers: StoredDtype) -> KvDtype {
    match numbers {
        StoredDtype::F16 => KvDtype::F16,
        StoredDtype::BF16 => KvDtype::BF16,
        _ => KvDtype::F32,
    }
}

/// The type that activations have on a GPU: the one that is asked for, else the embedding's.
pub(super) fn one_type(
    arch: &'static Arch,
    tensors: &Tensors,
    asked: Option<StoredDtype>,
) -> StoredDtype {
    let stored = || {
        let name = arch.names_of(Slot::Embed).next()?;
        tensors.dtype_of(&format!("{name}.weight"))
    };
    match asked.or_else(stored) {
        Some(dtype @ (StoredDtype::F32 | StoredDtype::F16 | StoredDtype::BF16)) => dtype,
        Some(StoredDtype::Quantised(_)) => StoredDtype::F16,
        _ => StoredDtype::F32,
    }
}
