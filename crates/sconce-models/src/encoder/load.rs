//! Turns the named tensors of a checkpoint into the layers of an encoder.

use sconce_nn::weights::{HostTensor, Matrix, WeightSource};
use sconce_nn::{Embedding, Linear, Norm};

use super::spec::{EncoderSpec, Order};
use super::weights::Place;
use crate::arch::EncoderArch;
use crate::decoder::{LoadError, LoadOptions, NormKind, Tensors};
use crate::layers::{Expected, Kept, Layers, Role, require};

/// What to say of a head that is not there.
const NO_HEAD: &str = "; the checkpoint has no trained head for this task, and one with random weights is not served: \
                       option.task names what a model does";

/// Makes layers.
pub(super) struct EncoderLoader<'a> {
    arch: &'static EncoderArch,
    spec: &'a EncoderSpec,
    layers: Layers<'a>,
}

impl<'a> EncoderLoader<'a> {
    pub(super) fn new(
        arch: &'static EncoderArch,
        spec: &'a EncoderSpec,
        options: LoadOptions,
        source: &'a dyn WeightSource,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let landmark = arch.name(Place::Embed);
        Self {
            arch,
            spec,
            layers: Layers::new(Tensors::new(source, landmark, progress), options),
        }
    }

    /// The table of the tokens.
    pub(super) fn embedding(
        &mut self,
        shape: [usize; 2],
        keys: &'static str,
    ) -> Result<Embedding, LoadError> {
        let name = self.full(Place::Embed, 0);
        self.layers.embedding(&name, shape, of(Place::Embed, keys))
    }

    /// The table of one of the other embeddings.
    pub(super) fn table(
        &mut self,
        place: Place,
        shape: [usize; 2],
        keys: &'static str,
    ) -> Result<Embedding, LoadError> {
        let name = self.full(place, 0);
        self.layers.table(&name, shape, of(place, keys))
    }

    /// The table of the tokens, and its matrix for a head that is tied to it.
    pub(super) fn tied_table(
        &mut self,
        shape: [usize; 2],
        keys: &'static str,
    ) -> Result<(Embedding, Matrix), LoadError> {
        let name = self.full(Place::Embed, 0);
        self.layers.tied_table(&name, shape, of(Place::Embed, keys))
    }

    /// A table as numbers.
    pub(super) fn numbers(
        &mut self,
        place: Place,
        shape: [usize; 2],
        keys: &'static str,
    ) -> Result<Vec<f32>, LoadError> {
        let name = self.full(place, 0);
        self.layers.numbers(&name, shape, of(place, keys))
    }

    /// A linear layer of a place.
    pub(super) fn linear(
        &mut self,
        place: Place,
        layer: usize,
        shape: [usize; 2],
        bias: bool,
    ) -> Result<Linear, LoadError> {
        let name = self.full(place, layer);
        let keys = "hidden_size, intermediate_size, embedding_size";
        self.layers
            .linear(&name, shape, bias, Role::Layer, of(place, keys))
    }

    /// Several linear layers whose rows lie in one tensor.
    pub(super) fn stacked<const N: usize>(
        &mut self,
        place: Place,
        layer: usize,
        shape: [usize; 2],
        bias: bool,
    ) -> Result<[Linear; N], LoadError> {
        let name = self.full(place, layer);
        let keys = "hidden_size, intermediate_size";
        self.layers.stacked(&name, shape, bias, of(place, keys))
    }

    /// A norm of a place.
    pub(super) fn norm(
        &mut self,
        place: Place,
        layer: usize,
        width: usize,
    ) -> Result<Norm, LoadError> {
        let name = self.full(place, layer);
        self.layers
            .norm(&name, self.spec.norm, width, of(place, "hidden_size"))
    }

    /// The convolution beside the first layer, of matrices for each of so many taps, as one linear layer over the
    /// neighbours of a token end to end.
    pub(super) fn convolution(&mut self, width: usize, taps: usize) -> Result<Linear, LoadError> {
        let name = self.full(Place::Convolution, 0);
        let expected = of(Place::Convolution, "hidden_size, conv_kernel_size");
        let layers = &mut self.layers;
        let stored = layers.taken(&name, "weight", &[width, width, taps], expected)?;
        let numbers = stored.to_vec_f32()?;
        // From `[outputs, inputs, taps]` to `[outputs, taps, inputs]`.
        let mut turned = Vec::with_capacity(numbers.len());
        for output in numbers.chunks_exact(width * taps) {
            for tap in 0..taps {
                turned.extend(output.iter().skip(tap).step_by(taps));
            }
        }
        let turned = HostTensor::from_f32(turned, &[width, taps * width]);
        let weight = layers.kept(&name, &turned, Role::Whole, 1)?;
        let bias = layers.bias(&name, true, width, expected)?;
        layers.made(&name, weight, bias)
    }

    /// A linear layer of a head.
    pub(super) fn head_linear(
        &mut self,
        name: &str,
        shape: [usize; 2],
        bias: bool,
        keys: &'static str,
    ) -> Result<Linear, LoadError> {
        self.layers
            .linear(name, shape, bias, Role::Whole, of_head(keys))
    }

    /// A norm of a head.
    pub(super) fn head_norm(
        &mut self,
        name: &str,
        kind: NormKind,
        width: usize,
    ) -> Result<Norm, LoadError> {
        self.layers.norm(name, kind, width, of_head("hidden_size"))
    }

    /// The embedding as an output projection. A copy that is stored for it all the same is the same numbers, and
    /// transformers ties it too.
    pub(super) fn tied(
        &mut self,
        name: &str,
        biases: &[&str],
        embedding: &Matrix,
    ) -> Result<Linear, LoadError> {
        let layers = &mut self.layers;
        if layers.tensors.has(&format!("{name}.weight")) {
            let shape = embedding.shape();
            let copy = layers.taken(name, "weight", &shape, of_head("vocab_size, hidden_size"))?;
            layers.tensors.touch(&copy, 1);
        }
        let rows = embedding.shape()[0];
        let mut found = None;
        for bias in biases {
            if layers.tensors.has(bias) {
                let bias = layers.tensors.take(bias, NO_HEAD)?;
                found = found.or(Some(bias));
            }
        }
        let bias = match (found, biases.first()) {
            (Some(bias), _) => Some(bias),
            (None, Some(first)) => Some(layers.tensors.take(first, NO_HEAD)?),
            (None, None) => None,
        };
        if let Some(bias) = &bias {
            require(biases[0], bias, &[rows], "vocab_size")?;
            layers.footprint.add_as_f32(bias);
        }
        layers.made(name, embedding.clone(), bias)
    }

    /// Checks that nothing of the checkpoint is left over but what the family knows; `used` are the names of the head's
    /// tensors.
    pub(super) fn finish(self, head: Option<&str>) -> Result<Kept, LoadError> {
        let arch = self.arch;
        let of_unused_head = |name: &str| {
            let of = |prefix: &&&str| {
                name.strip_prefix(**prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let found = arch.heads.iter().find(of);
            found.is_some_and(|prefix| head != Some(*prefix))
        };
        let (tensors, kept) = self.layers.finish();
        tensors.finish_unless(&of_unused_head, arch.ignore)?;
        Ok(kept)
    }

    /// The name of a place's tensors, with the base model's prefix.
    fn full(&self, place: Place, layer: usize) -> String {
        let group = self.spec.group;
        let name = self.arch.name(place);
        name.replace("{}", &(layer / group).to_string())
            .replace("{inner}", &(layer % group).to_string())
    }
}

/// What is said of a tensor of a place.
fn of(place: Place, keys: &'static str) -> Expected {
    let hint = match place {
        Place::Embed => "; do the weights belong to the model that `architectures` names?",
        _ => "; are shards missing, or is the number of layers wrong?",
    };
    Expected { keys, hint }
}

/// What is said of a tensor of a head.
fn of_head(keys: &'static str) -> Expected {
    Expected {
        keys,
        hint: NO_HEAD,
    }
}

/// The norms of a layer as they stand.
pub(super) fn needs_attn_norm(spec: &EncoderSpec, stored: usize) -> bool {
    let first = spec.layers.iter().find(|layer| layer.stored == stored);
    spec.order == Order::Post || first.is_none_or(|layer| layer.attn_norm)
}
