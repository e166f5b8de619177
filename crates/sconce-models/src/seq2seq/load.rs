//! Turns the named tensors of a checkpoint into the layers of an encoder-decoder.

use candle_core::Device;
use sconce_nn::weights::{HostTensor, WeightSource};
use sconce_nn::{Buckets, DistanceBiases, Embedding, Linear, Norm};

use super::spec::{Positions, Seq2SeqSpec, StackDims};
use super::weights::{Seat, Side};
use crate::arch::Seq2SeqArch;
use crate::decoder::{Axis, Head, LoadError, LoadOptions, Share, Tensors};
use crate::layers::{Expected, Kept, Layers, Part, Role, refused, require};

const LAYER: &str = "; are shards missing, or is the number of layers wrong?";
const WHOLE: &str = "; do the weights belong to the model that `architectures` names?";

/// Makes layers.
pub(super) struct Seq2SeqLoader<'a> {
    arch: &'static Seq2SeqArch,
    pub(super) spec: &'a Seq2SeqSpec,
    /// The rank's part of each stack.
    shares: [Share; 2],
    layers: Layers<'a>,
}

/// Which side of a linear layer is divided among the ranks, and along what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Divided {
    /// Its outputs.
    Outputs(Axis),
    /// Its inputs: the results of all ranks are to be added up.
    Inputs(Axis),
}

impl<'a> Seq2SeqLoader<'a> {
    pub(super) fn new(
        arch: &'static Seq2SeqArch,
        spec: &'a Seq2SeqSpec,
        (rank, world): (usize, usize),
        options: LoadOptions,
        source: &'a dyn WeightSource,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        let landmark = arch.landmark();
        Ok(Self {
            arch,
            spec,
            shares: [
                Share::new(rank, world, spec.dims(Side::Encoder))?,
                Share::new(rank, world, spec.dims(Side::Decoder))?,
            ],
            layers: Layers::new(Tensors::new(source, landmark, progress), options),
        })
    }

    /// The rank's part of a stack.
    pub(super) fn share(&self, side: Side) -> Share {
        self.shares[side as usize]
    }

    /// The name of a seat's weights: the first that the checkpoint has, else the first.
    fn name(&self, side: Side, seat: Seat, layer: usize) -> String {
        let full = |name: &str| {
            let of_side = name.replace("{side}", side.name());
            of_side.replace("{}", &layer.to_string())
        };
        let has = |name: &String| self.layers.tensors.has(&format!("{name}.weight"));
        let mut names = self.arch.names_of(side, seat).map(full);
        let first = names.next().unwrap_or_default();
        match has(&first) {
            true => first,
            false => names.find(has).unwrap_or(first),
        }
    }

    /// The embedding that both stacks share, and the output projection with what it adds.
    pub(super) fn ends(&mut self) -> Result<(Embedding, Linear), LoadError> {
        let spec = self.spec;
        let expected = Expected {
            keys: "vocab_size, d_model",
            hint: WHOLE,
        };
        let shape = [spec.vocab, spec.width];
        let names: Vec<&'static str> = self.arch.names_of(Side::Encoder, Seat::Shared).collect();
        let there =
            |name: &&str, layers: &Layers<'_>| layers.tensors.has(&format!("{name}.weight"));
        let first = names.iter().find(|name| there(name, &self.layers));
        let first = first.or(names.first()).copied().unwrap_or("");
        for copy in names.iter().filter(|name| **name != first) {
            self.spare(copy, shape)?;
        }
        let head = self.name(Side::Decoder, Seat::Head, 0);
        let bias = self.logits_bias()?;
        let share = self.share(Side::Decoder);
        let part = Part {
            rows: share.range(Axis::Vocab),
            of: share.world,
            ..Part::whole(shape)
        };
        let layers = &mut self.layers;
        match spec.head {
            Head::Tied => {
                let (embed, matrix) = layers.tied_part(first, shape, part, expected)?;
                let linear = layers.made(first, matrix, bias)?;
                self.spare(&head, shape)?;
                Ok((embed, linear))
            }
            Head::Own => {
                let embed = layers.embedding_part(first, shape, part.clone(), expected)?;
                let own = layers.matrix(&head, shape, part, Role::Head, expected)?;
                Ok((embed, layers.made(&head, own, bias)?))
            }
        }
    }

    /// A copy of the embedding under another name, if it is stored.
    fn spare(&mut self, name: &str, shape: [usize; 2]) -> Result<(), LoadError> {
        let full = format!("{name}.weight");
        if name.is_empty() || !self.layers.tensors.has(&full) {
            return Ok(());
        }
        let copy = self.layers.tensors.take(&full, WHOLE)?;
        require(&full, &copy, &shape, "vocab_size, d_model")?;
        self.layers.tensors.touch(&copy, 1);
        Ok(())
    }

    /// What is added to logits, stored as a row of its own; older checkpoints of some families lack it.
    fn logits_bias(&mut self) -> Result<Option<HostTensor>, LoadError> {
        let name = self.name(Side::Decoder, Seat::LogitsBias, 0);
        if name.is_empty() || !self.layers.tensors.has(&name) {
            return Ok(None);
        }
        let bias = self.layers.tensors.take(&name, WHOLE)?;
        require(&name, &bias, &[1, self.spec.vocab], "1, vocab_size")?;
        self.layers.footprint.add_as_f32(&bias);
        let part = self.share(Side::Decoder).range(Axis::Vocab);
        let numbers = bias.to_vec_f32()?[part.clone()].to_vec();
        Ok(Some(HostTensor::from_f32(numbers, &[part.len()])))
    }

    /// The table of positions of a stack, if it has one.
    pub(super) fn positions(&mut self, side: Side) -> Result<Option<Embedding>, LoadError> {
        let (width, context) = (self.spec.width, self.dims(side).context.unwrap_or(0));
        match self.spec.positions {
            Positions::Buckets { .. } => Ok(None),
            Positions::Learned { offset } => {
                let name = self.name(side, Seat::Positions, 0);
                let expected = Expected {
                    keys: "the number of positions with the offset of the family, d_model",
                    hint: WHOLE,
                };
                let shape = [context + offset, width];
                let table = self.layers.table_from(&name, shape, offset, expected);
                Ok(Some(table?))
            }
            Positions::Sinusoids(kind) => {
                let mut numbers = kind.table(context, width);
                // A last row for tokens without a position.
                numbers.resize((context + 1) * width, 0.0);
                let table = HostTensor::from_f32(numbers, &[context + 1, width]);
                self.layers.footprint.add_as_f32(&table);
                let table = Embedding::new(table, 0, &Device::Cpu);
                Ok(Some(table.map_err(|cause| refused("positions", cause))?))
            }
        }
    }

    /// The biases of distances of a stack, if it has some: of all layers, or of each.
    pub(super) fn distances(&mut self, side: Side) -> Result<Vec<DistanceBiases>, LoadError> {
        let Positions::Buckets { per_layer, .. } = self.spec.positions else {
            return Ok(Vec::new());
        };
        let layers = if per_layer { self.dims(side).layers } else { 1 };
        let tables = (0..layers).map(|layer| self.biases(side, Seat::Distances, layer));
        tables.collect()
    }

    /// The biases of distances of blocks whose sums the encoder attends to.
    pub(super) fn block_distances(&mut self) -> Result<DistanceBiases, LoadError> {
        self.biases(Side::Encoder, Seat::BlockDistances, 0)
    }

    /// A table of biases by distance.
    fn biases(
        &mut self,
        side: Side,
        seat: Seat,
        layer: usize,
    ) -> Result<DistanceBiases, LoadError> {
        let (count, longest) = match self.spec.positions {
            Positions::Buckets { count, longest, .. } => (count, longest),
            _ => (0, 0),
        };
        let buckets = match side {
            Side::Encoder => Buckets::Halves { count, longest },
            Side::Decoder => Buckets::Before { count, longest },
        };
        let heads = self.dims(side).heads;
        let share = self.share(side);
        let part = share.rank * share.heads()..(share.rank + 1) * share.heads();
        let expected = Expected {
            keys: "relative_attention_num_buckets, num_heads",
            hint: WHOLE,
        };
        let name = self.name(side, seat, layer);
        let numbers = self.layers.numbers(&name, [count, heads], expected)?;
        let rows = numbers.chunks_exact(heads);
        let own: Vec<f32> = rows.flat_map(|row| row[part.clone()].to_vec()).collect();
        let biases = DistanceBiases::new(own, part.len(), buckets);
        biases.map_err(|cause| refused(&name, cause))
    }

    /// A linear layer.
    pub(super) fn linear(
        &mut self,
        side: Side,
        seat: Seat,
        layer: usize,
        (shape, divided): ([usize; 2], Divided),
    ) -> Result<Linear, LoadError> {
        let name = self.name(side, seat, layer);
        let expected = Expected {
            keys: "d_model, the number and size of heads, the size of the MLP",
            hint: LAYER,
        };
        let share = self.share(side);
        let whole = Part {
            of: share.world,
            ..Part::whole(shape)
        };
        let part = match divided {
            Divided::Outputs(axis) => Part {
                rows: share.range(axis),
                ..whole
            },
            Divided::Inputs(axis) => Part {
                columns: share.range(axis),
                bias: share.rank == 0,
                ..whole
            },
        };
        let biases = self.spec.biases;
        self.layers
            .linear_part(&name, (shape, part), biases, Role::Layer, expected)
    }

    /// A norm.
    pub(super) fn norm(&mut self, side: Side, seat: Seat, layer: usize) -> Result<Norm, LoadError> {
        let name = self.name(side, seat, layer);
        let expected = Expected {
            keys: "d_model",
            hint: LAYER,
        };
        self.layers
            .norm(&name, self.spec.norm, self.spec.width, expected)
    }

    /// The sizes of a stack.
    pub(super) fn dims(&self, side: Side) -> StackDims {
        match side {
            Side::Encoder => self.spec.encoder,
            Side::Decoder => self.spec.decoder,
        }
    }

    /// Checks that nothing of the checkpoint is left over but what the family knows.
    pub(super) fn finish(self) -> Result<Kept, LoadError> {
        let (tensors, kept) = self.layers.finish();
        tensors.finish(self.arch.ignore)?;
        Ok(kept)
    }
}
