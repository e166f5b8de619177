//! Turns named tensors into layers. Everything that can be settled before the first token is settled here:
//! transposes, the split of fused projections, the cut for this rank, the storage type.

use candle_core::Device;
use sconce_nn::weights::{HostTensor, StoredDtype, WeightSource};
use sconce_nn::{Embedding, Linear, Norm, Rope, RopeSpec};

use super::load_error::LoadError;
use super::share::Share;
use super::slots::{Axis, Slot, Split};
use super::spec::{NormKind, Qkv, Spec};
use super::tensors::Tensors;
use crate::arch::{Arch, Fix};

/// How weights are kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// The type of linear and embedding weights in memory: f32, f16 or bf16. `None`: as stored, without a copy.
    /// Norms, biases and all computation are f32 either way.
    pub dtype: Option<StoredDtype>,
}

/// Makes the layers of one rank.
pub(crate) struct Loader<'a> {
    arch: &'static Arch,
    spec: &'a Spec,
    share: Share,
    options: LoadOptions,
    device: Device,
    tensors: Tensors<'a>,
}

/// The two tensors of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Weight,
    Bias,
}

/// A weight as it is in the file, but for fixes, with its bias.
struct Whole {
    name: String,
    weight: HostTensor,
    bias: Option<HostTensor>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        arch: &'static Arch,
        spec: &'a Spec,
        share: Share,
        options: LoadOptions,
        source: &'a dyn WeightSource,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let tensors = Tensors::new(source, arch.weight_name(Slot::Embed), progress);
        Self {
            arch,
            spec,
            share,
            options,
            device: Device::Cpu,
            tensors,
        }
    }

    /// The norm of a slot.
    pub(crate) fn norm(&mut self, slot: Slot, layer: usize) -> Result<Norm, LoadError> {
        let weight = self.tensor(slot, layer, Part::Weight)?;
        self.tensors.touch(&weight, 1);
        let norm = match self.spec.norm {
            NormKind::Layer { eps } => {
                let bias = self.tensor(slot, layer, Part::Bias)?;
                self.tensors.touch(&bias, 1);
                Norm::layer(weight, Some(bias), eps, &self.device)
            }
            NormKind::Rms { eps } => Norm::rms(weight, eps, &self.device),
        };
        norm.map_err(|cause| LoadError::Layer {
            tensor: self.name(slot, layer, Part::Weight),
            cause,
        })
    }

    /// The tables of the rotation.
    pub(crate) fn rope(&self, spec: &RopeSpec) -> Result<Rope, LoadError> {
        let tensor = "rotary tables".to_owned();
        Rope::new(spec).map_err(|cause| LoadError::Layer { tensor, cause })
    }

    /// This rank's part of the linear layer of a slot.
    pub(crate) fn linear(&mut self, slot: Slot, layer: usize) -> Result<Linear, LoadError> {
        let whole = self.whole(slot, layer)?;
        self.cut_linear(slot, whole)
    }

    /// This rank's projections to queries, keys and values, whatever their layout in the file.
    pub(crate) fn qkv(&mut self, layer: usize) -> Result<[Linear; 3], LoadError> {
        const SLOTS: [Slot; 3] = [Slot::Query, Slot::Key, Slot::Value];
        let wholes = match self.spec.qkv {
            Qkv::Split => SLOTS.map(|slot| self.whole(slot, layer)),
            Qkv::Stacked | Qkv::PerHead => {
                let fused = self.whole(Slot::Qkv, layer)?;
                [0, 1, 2].map(|which| self.unfused(&fused, which))
            }
        };
        let [query, key, value] = wholes;
        Ok([
            self.cut_linear(Slot::Query, query?)?,
            self.cut_linear(Slot::Key, key?)?,
            self.cut_linear(Slot::Value, value?)?,
        ])
    }

    /// This rank's rows of the token embedding, and their weight for a tied head.
    pub(crate) fn embedding(&mut self) -> Result<(Embedding, HostTensor), LoadError> {
        let rows = self.share.range(Axis::Vocab);
        let weight =
            self.tensor(Slot::Embed, 0, Part::Weight)?
                .narrow(0, rows.start, rows.len())?;
        let weight = self.stored(weight, self.share.world)?;
        Ok((
            self.lookup(Slot::Embed, weight.clone(), rows.start)?,
            weight,
        ))
    }

    /// The learned positions, whole on every rank.
    pub(crate) fn positions(&mut self) -> Result<Embedding, LoadError> {
        let weight = self.tensor(Slot::Position, 0, Part::Weight)?;
        let weight = self.stored(weight, 1)?;
        self.lookup(Slot::Position, weight, 0)
    }

    /// The output projection over this rank's rows of the vocabulary, tied to `embed`.
    /// As in transformers, a head that is stored all the same is not tied when it differs.
    pub(crate) fn tied_head(&mut self, embed: HostTensor) -> Result<Linear, LoadError> {
        let name = self.name(Slot::Head, 0, Part::Weight);
        if self.tensors.has(&name) {
            let own = self.linear_weight(Slot::Head)?;
            if !same_bytes(&own, &embed) {
                tracing::warn!(
                    "`{name}` differs from the embedding it should be tied to: it is used as it is"
                );
                return self.layer(&name, own, None);
            }
        }
        self.layer(&name, embed, None)
    }

    /// Checks that nothing of the checkpoint is left over.
    pub(crate) fn finish(self) -> Result<(), LoadError> {
        self.tensors.finish(self.arch.ignore)
    }

    fn linear_weight(&mut self, slot: Slot) -> Result<HostTensor, LoadError> {
        let weight = self.tensor(slot, 0, Part::Weight)?;
        let weight = self.cut(slot, &weight, Part::Weight)?;
        self.stored(weight, self.share.world)
    }

    fn whole(&mut self, slot: Slot, layer: usize) -> Result<Whole, LoadError> {
        let weight = self.tensor(slot, layer, Part::Weight)?;
        let biased = self.spec.biases.contains(&slot);
        let bias = if biased {
            Some(self.tensor(slot, layer, Part::Bias)?)
        } else {
            None
        };
        Ok(Whole {
            name: self.name(slot, layer, Part::Weight),
            weight,
            bias,
        })
    }

    /// A tensor as the decoder wants it, uncut: found, fixed, and of the shape that the configuration says.
    fn tensor(&mut self, slot: Slot, layer: usize, part: Part) -> Result<HostTensor, LoadError> {
        let name = self.name(slot, layer, part);
        let found = self.tensors.take(&name, hint(slot, part))?;
        let transposed = part == Part::Weight && self.arch.fixes.contains(&(slot, Fix::Transpose));
        let axes = slot.axes();
        let mut axes = if part == Part::Weight {
            axes
        } else {
            &axes[..1]
        }
        .to_vec();
        if transposed {
            axes.reverse();
        }
        let wanted: Vec<usize> = axes.iter().map(|axis| axis.len(&self.spec.dims)).collect();
        if found.shape() != wanted {
            let keys: Vec<&str> = axes.iter().map(|axis| axis.keys()).collect();
            return Err(LoadError::Shape {
                tensor: self.tensors.name_in_file(&name).to_owned(),
                found: found.shape().to_vec(),
                wanted,
                keys: format!("[{}]", keys.join(", ")),
            });
        }
        Ok(if transposed {
            found.transpose()?
        } else {
            found
        })
    }

    /// One of the three parts of a fused projection: 0 queries, 1 keys, 2 values.
    fn unfused(&self, fused: &Whole, which: usize) -> Result<Whole, LoadError> {
        let part = |tensor: &HostTensor| match self.spec.qkv {
            Qkv::PerHead => every_third_head(tensor, which, self.spec.dims.head),
            Qkv::Stacked | Qkv::Split => {
                let rows = tensor.shape()[0] / 3;
                Ok(tensor.narrow(0, which * rows, rows)?)
            }
        };
        let bias = fused.bias.as_ref().map(part).transpose()?;
        Ok(Whole {
            name: fused.name.clone(),
            weight: part(&fused.weight)?,
            bias,
        })
    }

    fn cut_linear(&mut self, slot: Slot, whole: Whole) -> Result<Linear, LoadError> {
        let weight = self.cut(slot, &whole.weight, Part::Weight)?;
        let weight = self.stored(weight, self.share.world)?;
        // The results of a column cut are summed over the ranks, so one of them adds the bias.
        let added_here = slot.split() != Split::Columns || self.share.rank == 0;
        let bias = match whole.bias.filter(|_| added_here) {
            Some(bias) => {
                let bias = self.cut(slot, &bias, Part::Bias)?;
                self.tensors.touch(&bias, self.share.world);
                Some(bias)
            }
            None => None,
        };
        self.layer(&whole.name, weight, bias)
    }

    /// This rank's part of a tensor; a view.
    fn cut(&self, slot: Slot, tensor: &HostTensor, part: Part) -> Result<HostTensor, LoadError> {
        let dim = match (slot.split(), part) {
            (Split::Rows | Split::Vocabulary, _) => 0,
            (Split::Columns, Part::Weight) => 1,
            (Split::Columns, Part::Bias) | (Split::Copied, _) => return Ok(tensor.clone()),
        };
        let range = self.share.range(slot.axes()[dim]);
        Ok(tensor.narrow(dim, range.start, range.len())?)
    }

    /// The weight in the type that it is computed from, readable in place, all its pages in memory.
    fn stored(&mut self, weight: HostTensor, parts: usize) -> Result<HostTensor, LoadError> {
        let as_stored = match weight.dtype() {
            StoredDtype::F64 => StoredDtype::F32,
            other => other,
        };
        let weight = weight
            .to_dtype(self.options.dtype.unwrap_or(as_stored))?
            .packed()?;
        self.tensors.touch(&weight, parts);
        Ok(weight)
    }

    fn layer(
        &self,
        name: &str,
        weight: HostTensor,
        bias: Option<HostTensor>,
    ) -> Result<Linear, LoadError> {
        let tensor = self.tensors.name_in_file(name).to_owned();
        Linear::new(weight, bias, &self.device).map_err(|cause| LoadError::Layer { tensor, cause })
    }

    fn lookup(&self, slot: Slot, weight: HostTensor, first: usize) -> Result<Embedding, LoadError> {
        let tensor = self.name(slot, 0, Part::Weight);
        Embedding::new(weight, first, &self.device)
            .map_err(|cause| LoadError::Layer { tensor, cause })
    }

    /// The full name of a tensor, with the base model's prefix.
    fn name(&self, slot: Slot, layer: usize, part: Part) -> String {
        let place = self
            .arch
            .weight_name(slot)
            .replace("{}", &layer.to_string());
        match part {
            Part::Weight => place + ".weight",
            Part::Bias => place + ".bias",
        }
    }
}

/// The rows of one of query, key and value from a tensor that holds the three of each head together; a copy.
fn every_third_head(
    fused: &HostTensor,
    which: usize,
    head: usize,
) -> Result<HostTensor, LoadError> {
    let rows = fused.shape()[0] / 3;
    let mut shape = fused.shape().to_vec();
    let rest: usize = shape[1..].iter().product();
    let grouped = fused.reshape(&[rows / head, 3, head * rest])?;
    shape[0] = rows;
    Ok(grouped.narrow(1, which, 1)?.copied()?.reshape(&shape)?)
}

fn same_bytes(one: &HostTensor, other: &HostTensor) -> bool {
    one.dtype() == other.dtype()
        && one.shape() == other.shape()
        && (0..one.shape()[0]).all(|row| one.row_bytes(row) == other.row_bytes(row))
}

/// What in `config.json` could be the reason that a tensor is missing.
fn hint(slot: Slot, part: Part) -> &'static str {
    match (slot, part) {
        (Slot::Head, _) => {
            "; is `tie_word_embeddings` false by mistake, or is this a base model without a head?"
        }
        (_, Part::Bias) => "; do `attention_bias` and `mlp_bias` say what the checkpoint has?",
        (Slot::Embed, _) => "; do the weights belong to the model that `architectures` names?",
        _ => "; are shards missing, or is the number of layers wrong?",
    }
}
