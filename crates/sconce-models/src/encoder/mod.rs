//! The encoder: one implementation for all families, driven by an [`EncoderSpec`], with a head for the task at hand.
//! Texts run end to end, without padding; what a text gives does not depend on those beside it. Tokens, batches and
//! what logits mean are left to `sconce-tasks`.

mod block;
mod convolution;
mod head;
mod labels;
mod legacy;
mod load;
mod projection;
mod spec;
mod weights;

use candle_core::{Device, Result, Tensor};
use sconce_nn::weights::{Matrix, Outlines, WeightSource};
use sconce_nn::{DistanceBiases, Embedding, Linear, Norm, Rope, Step, add};

pub use head::{Dense, HeadKind, HeadSpec, Out, Over};
pub use labels::{Labels, Problem};
pub use projection::Projection;
pub use spec::{
    Convolution, DistanceKind, EncoderDims, EncoderEmbed, EncoderLayer, EncoderMlp, EncoderSpec,
    Order, Project, VectorsOfDistances,
};
pub use weights::{Place, PlaceNames};

use crate::arch::EncoderArch;
use crate::decoder::{Footprint, LoadError, LoadOptions};
use crate::layers::Kept;
use block::{Block, Pass};
use convolution::Convolved;
use head::Head;
use legacy::Renamed;
use load::EncoderLoader;

/// Texts as tokens, end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Segment of each token; the first is 0.
    pub types: Vec<u32>,
    /// Tokens of each text.
    pub lens: Vec<usize>,
    /// Indices of the tokens whose outputs are wanted, of models that give some for each token; `None`: all.
    pub wanted: Option<Vec<u32>>,
}

/// Rows of numbers, one for each text or token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Row after row.
    pub numbers: Vec<f32>,
    /// Numbers of a row.
    pub width: usize,
}

/// An encoder with its weights and one head, or none.
pub struct Encoder {
    dims: EncoderDims,
    entry: Entry,
    layers: Vec<EncoderLayer>,
    blocks: Vec<Block>,
    ropes: Vec<Rope>,
    biases: Option<DistanceBiases>,
    convolved: Option<Convolved>,
    final_norm: Option<Norm>,
    head: Option<Head>,
}

/// From ids to the first layer.
struct Entry {
    embed: Embedding,
    positions: Option<Embedding>,
    padding: Option<u32>,
    types: Option<Embedding>,
    norm: Norm,
    project: Option<(Linear, Project)>,
}

impl Encoder {
    /// Loads the weights; `progress` is called with the bytes read so far and those of the whole checkpoint.
    pub fn load(
        arch: &'static EncoderArch,
        spec: &EncoderSpec,
        head: Option<&HeadSpec>,
        source: &dyn WeightSource,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<Self, LoadError> {
        let renamed = Renamed(source);
        let loader = EncoderLoader::new(arch, spec, *options, &renamed, progress);
        let (mut encoder, kept, vectors) = Self::of(loader, spec, head)?;
        kept.tally.tell(options.quantise);
        encoder
            .prepare(spec, vectors)
            .map_err(|cause| LoadError::Layer {
                tensor: arch.name(Place::DistanceVectors).to_owned(),
                cause,
            })?;
        Ok(encoder)
    }

    /// What [`Encoder::load`] would keep in memory, and every error that it would end with, but for those of files
    /// that cannot be read: no weight is.
    pub fn survey(
        arch: &'static EncoderArch,
        spec: &EncoderSpec,
        head: Option<&HeadSpec>,
        source: &dyn WeightSource,
        options: &LoadOptions,
    ) -> std::result::Result<Footprint, LoadError> {
        let (outlines, mut nobody) = (Outlines(source), |_, _| {});
        let renamed = Renamed(&outlines);
        let loader = EncoderLoader::new(arch, spec, *options, &renamed, &mut nobody);
        Self::of(loader, spec, head).map(|(_, kept, _)| kept.footprint)
    }

    /// Takes all layers out of the loader; the vectors of distances too, which want to be projected.
    #[allow(clippy::type_complexity)]
    fn of(
        mut loader: EncoderLoader<'_>,
        spec: &EncoderSpec,
        head: Option<&HeadSpec>,
    ) -> std::result::Result<(Self, Kept, Option<(Vec<f32>, Option<Norm>)>), LoadError> {
        let dims = spec.dims;
        let is_tied = head.is_some_and(HeadSpec::is_tied);
        let (entry, tied) = Entry::load(&mut loader, spec, is_tied)?;
        let blocks = (0..spec.stored_layers()).map(|stored| Block::load(&mut loader, spec, stored));
        let blocks = blocks.collect::<std::result::Result<_, _>>()?;
        let (biases, vectors) = distances(&mut loader, spec)?;
        let convolved = spec.convolution;
        let convolved = convolved.map(|kind| Convolved::load(&mut loader, kind, dims.width));
        let convolved = convolved.transpose()?;
        let final_norm = spec
            .final_norm
            .then(|| loader.norm(Place::FinalNorm, 0, dims.width))
            .transpose()?;
        let ropes = spec.ropes.iter().map(|table| {
            let tensor = "rotary tables".to_owned();
            Rope::new(table).map_err(|cause| LoadError::Layer { tensor, cause })
        });
        let ropes = ropes.collect::<std::result::Result<_, _>>()?;
        let loaded = head
            .map(|head| Head::load(&mut loader, head, dims.width, tied.as_ref()))
            .transpose()?;
        let kept = loader.finish(head.map(HeadSpec::prefix))?;
        let encoder = Self {
            dims,
            entry,
            layers: spec.layers.clone(),
            blocks,
            ropes,
            biases,
            convolved,
            final_norm,
            head: loaded,
        };
        Ok((encoder, kept, vectors))
    }

    fn prepare(
        &mut self,
        spec: &EncoderSpec,
        vectors: Option<(Vec<f32>, Option<Norm>)>,
    ) -> Result<()> {
        let (Some((numbers, norm)), Some(DistanceKind::Vectors(kind))) = (vectors, spec.distances)
        else {
            return Ok(());
        };
        let shape = (kind.buckets.count(), self.dims.width);
        let mut table = Tensor::from_vec(numbers, shape, &Device::Cpu)?;
        if let Some(norm) = norm {
            table = norm.forward(&table)?;
        }
        self.blocks
            .iter_mut()
            .try_for_each(|block| block.prepare(kind, &table))
    }

    /// What the head gives for each text or token; without a head, the numbers of each token.
    pub fn forward(&self, batch: &Batch) -> Result<Rows> {
        self.check(batch)?;
        let step = Step {
            positions: batch.lens.iter().flat_map(|&len| 0..len as u32).collect(),
            ..Step::default()
        };
        let pass = Pass {
            lens: &batch.lens,
            step: &step,
            ropes: &self.ropes,
            biases: self.biases.as_ref(),
        };
        let mut x = self.entry.forward(batch, &step.positions)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let mut next = self.blocks[layer.stored].forward(&x, layer, &pass)?;
            if let (0, Some(convolved)) = (index, &self.convolved) {
                next = convolved.forward(&x, &next, &batch.lens)?;
            }
            x = next;
        }
        if let Some(norm) = &self.final_norm {
            x = norm.forward(&x)?;
        }
        let wanted = batch.wanted.as_deref();
        let out = match (&self.head, wanted) {
            (Some(head), wanted) => head.forward(&x, &batch.lens, wanted)?,
            (None, Some(wanted)) => head::picked(&x, wanted)?,
            (None, None) => x,
        };
        let width = out.dim(1)?;
        Ok(Rows {
            numbers: out.flatten_all()?.to_vec1()?,
            width,
        })
    }

    /// Numbers of a token behind the last layer.
    pub fn width(&self) -> usize {
        self.dims.width
    }

    /// Fails on what would read beside the tables.
    fn check(&self, batch: &Batch) -> Result<()> {
        let tokens = batch.ids.len();
        if batch.types.len() != tokens || batch.lens.iter().sum::<usize>() != tokens {
            candle_core::bail!("the batch's parts have different numbers of tokens");
        }
        let below = |what: &str, numbers: &[u32], limit: usize| match numbers
            .iter()
            .find(|&&number| number as usize >= limit)
        {
            Some(number) => candle_core::bail!("{what} {number} is not below {limit}"),
            None => Ok(()),
        };
        below("token id", &batch.ids, self.dims.vocab)?;
        below("segment", &batch.types, self.dims.types.max(1))?;
        below(
            "wanted token",
            batch.wanted.as_deref().unwrap_or(&[]),
            tokens,
        )?;
        match batch
            .lens
            .iter()
            .find(|&&len| len == 0 || len > self.dims.context)
        {
            Some(len) => {
                let context = self.dims.context;
                candle_core::bail!("a text of {len} tokens, where 1 to {context} are possible")
            }
            None => Ok(()),
        }
    }
}

impl Entry {
    /// Also gives the matrix of the embedding where a head is tied to it.
    fn load(
        loader: &mut EncoderLoader<'_>,
        spec: &EncoderSpec,
        is_tied: bool,
    ) -> std::result::Result<(Self, Option<Matrix>), LoadError> {
        let dims = spec.dims;
        let shape = [dims.vocab, dims.embed];
        let keys = "vocab_size, hidden_size";
        let (embed, tied) = if is_tied {
            let (embed, matrix) = loader.tied_table(shape, keys)?;
            (embed, Some(matrix))
        } else {
            (loader.embedding(shape, keys)?, None)
        };
        let mut table = |place, rows: usize, keys| {
            (rows > 0)
                .then(|| loader.table(place, [rows, dims.embed], keys))
                .transpose()
        };
        let keys = "max_position_embeddings, hidden_size";
        let positions = table(Place::Positions, dims.positions, keys)?;
        let types = table(Place::Types, dims.types, "type_vocab_size, hidden_size")?;
        let project = match spec.embed.project {
            Project::No => None,
            place => {
                let bias = place == Project::BehindNorm;
                let shape = [dims.width, dims.embed];
                Some((loader.linear(Place::EmbedIn, 0, shape, bias)?, place))
            }
        };
        let normed = match spec.embed.project {
            Project::BeforeNorm => dims.width,
            _ => dims.embed,
        };
        let entry = Self {
            embed,
            positions,
            padding: spec.embed.padding,
            types,
            norm: loader.norm(Place::EmbedNorm, 0, normed)?,
            project,
        };
        Ok((entry, tied))
    }

    fn forward(&self, batch: &Batch, positions: &[u32]) -> Result<Tensor> {
        let mut x = self.embed.forward(&batch.ids)?;
        if let Some(types) = &self.types {
            x = add(&x, &types.forward(&batch.types)?)?;
        }
        if let Some(table) = &self.positions {
            x = match self.padding {
                None => add(&x, &table.forward(positions)?)?,
                Some(padding) => add(&x, &table.forward(&behind(padding, batch))?)?,
            };
        }
        match &self.project {
            None => self.norm.forward(&x),
            Some((project, Project::BeforeNorm)) => self.norm.forward(&project.forward(&x)?),
            Some((project, _)) => project.forward(&self.norm.forward(&x)?),
        }
    }
}

/// Positions that count from behind the padding's row, over the tokens that are not padding.
fn behind(padding: u32, batch: &Batch) -> Vec<u32> {
    let mut positions = Vec::with_capacity(batch.ids.len());
    let mut from = 0;
    for &len in &batch.lens {
        let mut next = padding;
        positions.extend(batch.ids[from..from + len].iter().map(|&id| {
            if id == padding {
                return padding;
            }
            next += 1;
            next
        }));
        from += len;
    }
    positions
}

/// Biases of distances, or the vectors and their norm.
#[allow(clippy::type_complexity)]
fn distances(
    loader: &mut EncoderLoader<'_>,
    spec: &EncoderSpec,
) -> std::result::Result<(Option<DistanceBiases>, Option<(Vec<f32>, Option<Norm>)>), LoadError> {
    let dims = spec.dims;
    match spec.distances {
        None => Ok((None, None)),
        Some(DistanceKind::Biases(buckets)) => {
            let shape = [buckets.count(), dims.heads];
            let keys = "relative_attention_num_buckets, num_attention_heads";
            let numbers = loader.numbers(Place::DistanceBiases, shape, keys)?;
            let biases = DistanceBiases::new(numbers, dims.heads, buckets);
            let biases = biases.map_err(|cause| LoadError::Layer {
                tensor: "the biases of distances".to_owned(),
                cause,
            })?;
            Ok((Some(biases), None))
        }
        Some(DistanceKind::Vectors(kind)) => {
            let shape = [kind.buckets.count(), dims.width];
            let keys = "2 × position_buckets (max_relative_positions), hidden_size";
            let numbers = loader.numbers(Place::DistanceVectors, shape, keys)?;
            let norm = kind
                .normed
                .then(|| loader.norm(Place::DistanceNorm, 0, dims.width))
                .transpose()?;
            Ok((None, Some((numbers, norm))))
        }
    }
}
