//! Normalisation of queries and keys, head by head or over all heads.

use candle_core::{Device, Result, Tensor};
use sconce_nn::weights::HostTensor;
use sconce_nn::{Communicator, Norm, columns, multiply};

use super::layout::as_halves;
use super::load::Loader;
use super::load_error::LoadError;
use super::slots::{Axis, Slot};
use super::spec::{NormKind, Position, QkNorm, QkNormOver, Spec};

/// The norm of the queries or of the keys of this rank's heads.
pub(crate) enum HeadNorm {
    /// The same for each head.
    Head(Norm),
    /// A plain norm of each head, then a weight `[heads, head]`.
    OwnHead { plain: Norm, weight: Tensor },
    /// Over the heads of all ranks, in the order in which ranks are gathered; `start` and `len` are this rank's part.
    AllHeads {
        norm: Norm,
        start: usize,
        len: usize,
    },
}

impl HeadNorm {
    pub(crate) fn load(
        loader: &mut Loader,
        spec: &Spec,
        norm: QkNorm,
        slot: Slot,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        let whole = loader.qk_norm(slot, layer, norm.kind, norm.over)?;
        let axis = if slot == Slot::QueryNorm {
            Axis::Heads
        } else {
            Axis::KvHeads
        };
        let error = |cause| LoadError::Layer {
            tensor: format!("the norm of queries or keys in layer {layer}"),
            cause,
        };
        // The numbers of a head lie as the projection's rows do.
        let all: Vec<usize> = (0..whole.width()).collect();
        let dim = match &spec.position {
            Position::Rope(tables) => tables.first().map_or(0, |table| table.dim),
            _ => 0,
        };
        let order = as_halves(all, spec.pairing, spec.dims.head, dim);
        match norm.over {
            QkNormOver::Head => Ok(Self::Head(whole.permuted(&order))),
            QkNormOver::OwnHead => {
                let mine = whole.permuted(&order[loader.share.range(axis)]);
                Self::own_head(loader, &mine, norm.kind, spec.dims.head).map_err(error)
            }
            QkNormOver::AllHeads => {
                let gathered: Vec<usize> = (0..loader.share.world)
                    .flat_map(|rank| order[loader.share.of_rank(rank).range(axis)].to_vec())
                    .collect();
                let len = gathered.len() / loader.share.world;
                Ok(Self::AllHeads {
                    norm: whole.permuted(&gathered),
                    start: loader.share.rank * len,
                    len,
                })
            }
        }
    }

    fn own_head(loader: &Loader, mine: &Norm, kind: NormKind, head: usize) -> Result<Self> {
        let ones = HostTensor::from_f32(vec![1.0; head], &[head]);
        let plain = match kind {
            NormKind::Layer { eps, .. } => Norm::layer(ones, None, eps)?,
            NormKind::Rms { eps, .. } => Norm::rms(ones, eps)?,
        };
        let weight = Tensor::new(mine.weight(), &Device::Cpu)?;
        let weight = weight.reshape((1, mine.width() / head, head))?;
        let weight = loader.beside_activations(weight)?;
        Ok(Self::OwnHead { plain, weight })
    }

    /// `[tokens, heads, head]` to the same.
    pub(crate) fn forward(&self, x: &Tensor, comm: &dyn Communicator) -> Result<Tensor> {
        match self {
            Self::Head(norm) => norm.forward(x),
            Self::OwnHead { plain, weight } => multiply(&plain.forward(x)?, weight),
            Self::AllHeads { norm, start, len } => {
                let all = comm.all_gather(&x.flatten(1, 2)?, 1)?;
                columns(&norm.forward(&all)?, *start, *len)?.reshape(x.dims())
            }
        }
    }
}
