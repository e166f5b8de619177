//! Turns the named tensors of a checkpoint into the layers of an encoder.

use candle_core::Device;
use sconce_nn::weights::{Arena, HostTensor, Matrix, StoredDtype, WeightSource};
use sconce_nn::{Embedding, Linear, Norm};

use super::spec::{EncoderSpec, Order};
use super::weights::Place;
use crate::arch::EncoderArch;
use crate::decoder::{Affine, Footprint, LoadError, LoadOptions, NormKind, Tensors};

/// What to say of a head that is not there.
const NO_HEAD: &str = "; the checkpoint has no trained head for this task, and one with random weights is not served: \
                       option.task names what a model does";

/// Makes layers.
pub(super) struct EncoderLoader<'a> {
    arch: &'static EncoderArch,
    spec: &'a EncoderSpec,
    options: LoadOptions,
    tensors: Tensors<'a>,
    footprint: Footprint,
    arena: Option<Arena>,
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
            options,
            tensors: Tensors::new(source, landmark, progress),
            footprint: Footprint::default(),
            arena: options.in_huge_pages.then(Arena::default),
        }
    }

    /// The table of one of the embeddings.
    pub(super) fn table(
        &mut self,
        place: Place,
        shape: [usize; 2],
        keys: &str,
    ) -> Result<Embedding, LoadError> {
        let name = self.full(place, 0);
        let weight = self.taken(&name, "weight", &shape, keys, hint(place))?;
        let wanted = self.wanted(&weight);
        let weight = match &mut self.arena {
            Some(arena) => arena.hold(&weight, wanted)?,
            None => weight.to_dtype(wanted)?.packed()?,
        };
        self.tensors.touch(&weight, 1);
        self.footprint.add(&weight);
        self.footprint.add_table(&weight);
        Embedding::new(weight, 0, &Device::Cpu).map_err(|cause| refused(&name, cause))
    }

    /// The table of the tokens, and its matrix for a head that is tied to it.
    pub(super) fn tied_table(
        &mut self,
        shape: [usize; 2],
        keys: &str,
    ) -> Result<(Embedding, Matrix), LoadError> {
        let name = self.full(Place::Embed, 0);
        let weight = self.taken(&name, "weight", &shape, keys, hint(Place::Embed))?;
        let matrix = self.kept(&weight)?;
        let table = Embedding::of(matrix.clone(), 0, &Device::Cpu)
            .map_err(|cause| refused(&name, cause))?;
        Ok((table, matrix))
    }

    /// A table as numbers.
    pub(super) fn numbers(
        &mut self,
        place: Place,
        shape: [usize; 2],
        keys: &str,
    ) -> Result<Vec<f32>, LoadError> {
        let name = self.full(place, 0);
        let weight = self.taken(&name, "weight", &shape, keys, hint(place))?;
        self.tensors.touch(&weight, 1);
        self.footprint.add_as_f32(&weight);
        Ok(weight.to_vec_f32()?)
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
        self.linear_named(&name, shape, bias, keys, hint(place))
    }

    /// Several linear layers whose rows lie in one tensor.
    pub(super) fn stacked<const N: usize>(
        &mut self,
        place: Place,
        layer: usize,
        [rows, columns]: [usize; 2],
        bias: bool,
    ) -> Result<[Linear; N], LoadError> {
        let name = self.full(place, layer);
        let keys = "hidden_size, intermediate_size";
        let all = [N * rows, columns];
        let weight = self.taken(&name, "weight", &all, keys, hint(place))?;
        let bias = self.bias(&name, bias, N * rows, hint(place))?;
        let parts = (0..N).map(|part| {
            let weight = self.kept(&weight.narrow(0, part * rows, rows)?)?;
            let bias = bias.as_ref().map(|bias| bias.narrow(0, part * rows, rows));
            self.made(&name, weight, bias.transpose()?)
        });
        let parts: Vec<Linear> = parts.collect::<Result<_, LoadError>>()?;
        Ok(parts.try_into().expect("one for each part"))
    }

    /// A norm of a place.
    pub(super) fn norm(
        &mut self,
        place: Place,
        layer: usize,
        width: usize,
    ) -> Result<Norm, LoadError> {
        let name = self.full(place, layer);
        self.norm_named(&name, self.spec.norm, width, hint(place))
    }

    /// A linear layer of a head.
    pub(super) fn head_linear(
        &mut self,
        name: &str,
        shape: [usize; 2],
        bias: bool,
        keys: &str,
    ) -> Result<Linear, LoadError> {
        self.linear_named(name, shape, bias, keys, NO_HEAD)
    }

    /// A norm of a head.
    pub(super) fn head_norm(
        &mut self,
        name: &str,
        kind: NormKind,
        width: usize,
    ) -> Result<Norm, LoadError> {
        self.norm_named(name, kind, width, NO_HEAD)
    }

    /// The embedding as an output projection. A copy that is stored for it all the same is the same numbers, and
    /// transformers ties it too.
    pub(super) fn tied(
        &mut self,
        name: &str,
        biases: &[&str],
        embedding: &Matrix,
    ) -> Result<Linear, LoadError> {
        if self.tensors.has(&format!("{name}.weight")) {
            let shape = embedding.shape();
            let copy = self.taken(name, "weight", &shape, "vocab_size, hidden_size", NO_HEAD)?;
            self.tensors.touch(&copy, 1);
        }
        let rows = embedding.shape()[0];
        let mut found = None;
        for bias in biases {
            if self.tensors.has(bias) {
                let bias = self.tensors.take(bias, NO_HEAD)?;
                found = found.or(Some(bias));
            }
        }
        let bias = match (found, biases.first()) {
            (Some(bias), _) => Some(bias),
            (None, Some(first)) => Some(self.tensors.take(first, NO_HEAD)?),
            (None, None) => None,
        };
        if let Some(bias) = &bias {
            require(biases[0], bias, &[rows], "vocab_size")?;
            self.footprint.add_as_f32(bias);
        }
        self.made(name, embedding.clone(), bias)
    }

    /// Checks that nothing of the checkpoint is left over but what the family knows; `used` are the names of the head's
    /// tensors.
    pub(super) fn finish(self, head: Option<&str>) -> Result<Footprint, LoadError> {
        let arch = self.arch;
        let of_unused_head = |name: &str| {
            let of = |prefix: &&&str| {
                name.strip_prefix(**prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let found = arch.heads.iter().find(of);
            found.is_some_and(|prefix| head != Some(*prefix))
        };
        self.tensors.finish_unless(&of_unused_head, arch.ignore)?;
        Ok(self.footprint)
    }

    fn linear_named(
        &mut self,
        name: &str,
        shape: [usize; 2],
        bias: bool,
        keys: &str,
        hint: &'static str,
    ) -> Result<Linear, LoadError> {
        let weight = self.taken(name, "weight", &shape, keys, hint)?;
        let weight = self.kept(&weight)?;
        let bias = self.bias(name, bias, shape[0], hint)?;
        self.made(name, weight, bias)
    }

    fn norm_named(
        &mut self,
        name: &str,
        kind: NormKind,
        width: usize,
        hint: &'static str,
    ) -> Result<Norm, LoadError> {
        let mut part = |part: &str| {
            let found = self.taken(name, part, &[width], "hidden_size", hint)?;
            self.footprint.add_as_f32(&found);
            Ok::<_, LoadError>(found)
        };
        let norm = match kind {
            NormKind::Layer { eps, affine } => {
                let weight = part("weight")?;
                let bias = match affine {
                    Affine::Full => Some(part("bias")?),
                    _ => None,
                };
                Norm::layer(weight, bias, eps, &Device::Cpu)
            }
            NormKind::Rms { eps, .. } => Norm::rms(part("weight")?, eps, &Device::Cpu),
        };
        norm.map_err(|cause| refused(name, cause))
    }

    fn bias(
        &mut self,
        name: &str,
        wanted: bool,
        rows: usize,
        hint: &'static str,
    ) -> Result<Option<HostTensor>, LoadError> {
        if !wanted {
            return Ok(None);
        }
        let bias = self.taken(name, "bias", &[rows], "hidden_size", hint)?;
        self.footprint.add_as_f32(&bias);
        Ok(Some(bias))
    }

    /// A tensor of that shape.
    fn taken(
        &mut self,
        name: &str,
        part: &str,
        wanted: &[usize],
        keys: &str,
        hint: &'static str,
    ) -> Result<HostTensor, LoadError> {
        let full = format!("{name}.{part}");
        let found = self.tensors.take(&full, hint)?;
        require(self.tensors.name_in_file(&full), &found, wanted, keys)?;
        Ok(found)
    }

    /// The weight as it is multiplied with, in the type that it is computed from, all its pages in memory.
    fn kept(&mut self, weight: &HostTensor) -> Result<Matrix, LoadError> {
        let wanted = self.wanted(weight);
        let matrix = match &mut self.arena {
            Some(arena) => arena.hold_matrix(weight, wanted)?,
            None => Matrix::of(weight, wanted)?,
        };
        match matrix.rows() {
            Some(rows) => self.tensors.touch(rows, 1),
            // Every word was just written.
            None => self.tensors.report(matrix.storage().byte_len(), 1),
        }
        self.footprint.add(matrix.storage());
        Ok(matrix)
    }

    /// The type that a weight is computed from.
    fn wanted(&self, weight: &HostTensor) -> StoredDtype {
        match weight.dtype() {
            StoredDtype::F64 => self.options.dtype.unwrap_or(StoredDtype::F32),
            other => self.options.dtype.unwrap_or(other),
        }
    }

    fn made(
        &self,
        name: &str,
        weight: Matrix,
        bias: Option<HostTensor>,
    ) -> Result<Linear, LoadError> {
        let linear =
            Linear::of(weight, bias, &Device::Cpu).map_err(|cause| refused(name, cause))?;
        Ok(match self.options.dtype {
            Some(StoredDtype::BF16) => linear.with_bf16_products(),
            _ => linear,
        })
    }

    /// The name of a place's tensors, with the base model's prefix.
    fn full(&self, place: Place, layer: usize) -> String {
        self.arch.name(place).replace("{}", &layer.to_string())
    }
}

fn require(name: &str, found: &HostTensor, wanted: &[usize], keys: &str) -> Result<(), LoadError> {
    if found.shape() == wanted {
        return Ok(());
    }
    Err(LoadError::Shape {
        tensor: name.to_owned(),
        found: found.shape().to_vec(),
        wanted: wanted.to_vec(),
        keys: format!("[{keys}]"),
    })
}

fn refused(name: &str, cause: candle_core::Error) -> LoadError {
    LoadError::Layer {
        tensor: name.to_owned(),
        cause,
    }
}

/// What in `config.json` could be the reason that a tensor is missing.
fn hint(place: Place) -> &'static str {
    match place {
        Place::Embed => "; do the weights belong to the model that `architectures` names?",
        _ => "; are shards missing, or is the number of layers wrong?",
    }
}

/// The norms of a layer as they stand.
pub(super) fn needs_attn_norm(spec: &EncoderSpec, stored: usize) -> bool {
    let first = spec.layers.iter().find(|layer| layer.stored == stored);
    spec.order == Order::Post || first.is_none_or(|layer| layer.attn_norm)
}
