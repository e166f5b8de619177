//! The encoder-decoder: one implementation for all families, driven by a [`Seq2SeqSpec`].
//!
//! The encoder reads texts end to end, without padding, and the keys and values that the decoder's layers make of them
//! go to blocks of the same cache that holds the decoder's own. The decoder writes one token of each sequence in a step.
//! What a sequence gives does not depend on those beside it. Which blocks a sequence has, and which token comes next, is
//! left to `sconce-seq2seq`.

mod block;
mod decoding;
mod load;
mod spec;
mod weights;

use candle_core::{Device, Result, Tensor};
use sconce_nn::weights::{Outlines, WeightSource};
use sconce_nn::{
    Attend, AttendMutually, AttendToSums, Communicator, DistanceBiases, Distances, Embedding,
    KvCache, KvDtype, Linear, LookBack, Norm, Solo, Step, add, attend, attend_mutually,
    attend_stored, attend_to_sums, store, sums_of_blocks,
};

pub use decoding::{TaskDecoding, decoding_defaults, task_decoding};
pub use spec::{Positions, Seq2SeqMlp, Seq2SeqSpec, Sinusoids, StackDims};
pub use weights::{Seat, SeatNames, Side};

use crate::arch::Seq2SeqArch;
use crate::decoder::{Footprint, LoadError, LoadOptions};
use crate::encoder::Rows;
use crate::layers::Kept;
use block::{Attention, Block};
use load::Seq2SeqLoader;

/// Texts as tokens, end to end, and where the cache takes what is made of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Tokens of each text.
    pub lens: Vec<usize>,
    /// Where keys and values of each token go, as in [`Step::slots`].
    pub slots: Vec<u32>,
}

/// An encoder-decoder with its weights.
pub struct Seq2Seq {
    spec: Seq2SeqSpec,
    comm: Box<dyn Communicator + Send>,
    cache: KvDtype,
    embed: Embedding,
    encoder: Stack,
    decoder: Stack,
    /// Biases of distances in the encoder: none, one for all layers, or one for each.
    mutual: Vec<DistanceBiases>,
    /// What the encoder needs to attend to sums of blocks, if it does.
    sums: Option<Sums>,
    /// Self-attention of the decoder, of all layers or of each.
    own: Vec<Attend>,
    head: Linear,
}

/// How the encoder attends to sums of blocks of what is read.
struct Sums {
    /// Tokens of a block.
    block: usize,
    /// Biases of distances of blocks.
    far: DistanceBiases,
    /// Norm of the sums in each layer.
    norms: Vec<Norm>,
}

struct Stack {
    positions: Option<Embedding>,
    embed_norm: Option<Norm>,
    blocks: Vec<Block>,
    final_norm: Option<Norm>,
    heads: usize,
    context: Option<usize>,
    scale: f32,
}

impl Seq2Seq {
    /// Loads the part of `comm`'s rank; `progress` is called with the bytes read so far and those of the whole checkpoint.
    pub fn load(
        arch: &'static Seq2SeqArch,
        spec: &Seq2SeqSpec,
        source: &dyn WeightSource,
        comm: Box<dyn Communicator + Send>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<Self, LoadError> {
        let place = (comm.rank(), comm.world());
        let loader = Seq2SeqLoader::new(arch, spec, place, *options, source, progress)?;
        let (model, kept) = Self::of(loader, comm, options.cache)?;
        if place.0 == 0 {
            kept.tally.tell(options.quantise);
        }
        Ok(model)
    }

    /// What [`Seq2Seq::load`] would keep in memory on the first of `world` ranks, and every error that it would end with, but for those of files that
    /// cannot be read: no weight is.
    pub fn survey(
        arch: &'static Seq2SeqArch,
        spec: &Seq2SeqSpec,
        source: &dyn WeightSource,
        world: usize,
        options: &LoadOptions,
    ) -> std::result::Result<Footprint, LoadError> {
        let (outlines, mut nobody) = (Outlines(source), |_, _| {});
        let loader = Seq2SeqLoader::new(arch, spec, (0, world), *options, &outlines, &mut nobody)?;
        let (_, kept) = Self::of(loader, Box::new(Solo), options.cache)?;
        Ok(kept.footprint)
    }

    fn of(
        mut loader: Seq2SeqLoader<'_>,
        comm: Box<dyn Communicator + Send>,
        cache: KvDtype,
    ) -> std::result::Result<(Self, Kept), LoadError> {
        let spec = loader.spec.clone();
        let (embed, head) = loader.ends()?;
        let encoder = Stack::load(&mut loader, Side::Encoder)?;
        let decoder = Stack::load(&mut loader, Side::Decoder)?;
        let mutual = loader.distances(Side::Encoder)?;
        let before = loader.distances(Side::Decoder)?;
        let sums = Sums::load(&mut loader)?;
        let kept = loader.finish()?;
        let own = |look_back| Attend {
            scale: decoder.scale,
            look_back,
            ..Attend::default()
        };
        let own = match spec.positions {
            Positions::Buckets { longest, .. } => {
                let tables = before.iter().map(|biases| LookBack::new(biases, longest));
                tables.map(|table| own(Some(table))).collect()
            }
            _ => vec![own(None)],
        };
        let model = Self {
            spec,
            comm,
            cache,
            embed,
            encoder,
            decoder,
            mutual,
            sums,
            own,
            head,
        };
        Ok((model, kept))
    }

    /// A cache of so many blocks, as it needs it.
    pub fn reserve(&self, blocks: usize) -> Result<KvCache> {
        let shape = self.spec.kv_shape(self.cache, self.comm.world());
        KvCache::new(shape, blocks, &Device::Cpu)
    }

    /// Logits of a token.
    pub fn vocab(&self) -> usize {
        self.spec.vocab
    }

    /// Reads texts, and leaves in the cache what the decoder attends to.
    pub fn read(&self, reading: &Reading, kv: &mut KvCache) -> Result<()> {
        let tokens = reading.ids.len();
        if reading.lens.iter().sum::<usize>() != tokens || reading.slots.len() != tokens {
            candle_core::bail!("the texts' parts have different numbers of tokens");
        }
        let positions = self.counted(&reading.ids, &reading.lens);
        let mut x = self.entry(&self.encoder, &reading.ids, &positions)?;
        for (layer, block) in self.encoder.blocks.iter().enumerate() {
            x = block.attention.forward(&x, |part, x| {
                let projections = [&part.query, &part.key, &part.value];
                let all = Linear::forward_all(projections, x)?;
                let lens = &reading.lens;
                let attended = match &self.sums {
                    Some(sums) => self.attend_to_sums(layer, (part, sums), x, (all, lens))?,
                    None => self.attend_mutually(layer, all, lens)?,
                };
                self.summed(part.out.forward(&attended)?)
            })?;
            x = block
                .mlp
                .forward(&x, |part, x| self.summed(part.forward(x)?))?;
        }
        if let Some(norm) = &self.encoder.final_norm {
            x = norm.forward(&x)?;
        }
        for (layer, block) in self.decoder.blocks.iter().enumerate() {
            if let Some(cross) = &block.cross {
                let projections = [&cross.part.key, &cross.part.value];
                let [k, v] = Linear::forward_all(projections, &x)?;
                store(&k, &v, kv.layer(layer), &reading.slots)?;
            }
        }
        Ok(())
    }

    /// Attention of the texts that are read to themselves.
    fn attend_mutually(&self, layer: usize, all: [Tensor; 3], lens: &[usize]) -> Result<Tensor> {
        let how = AttendMutually {
            scale: self.encoder.scale,
            reach: self.spec.reaches.get(layer).copied(),
            distances: of_layer(&self.mutual, layer).map(Distances::Biases),
        };
        attend_mutually(all.each_ref(), self.encoder.heads, lens, &how)
    }

    /// The same to what is near, and to sums of blocks of the layer's input, which the keys' and values' projections see as
    /// if they were tokens.
    fn attend_to_sums(
        &self,
        layer: usize,
        (part, of_blocks): (&Attention, &Sums),
        x: &Tensor,
        (all, lens): ([Tensor; 3], &[usize]),
    ) -> Result<Tensor> {
        let Some(near) = of_layer(&self.mutual, layer) else {
            candle_core::bail!("there are no biases of distances beside sums of blocks");
        };
        let sums = sums_of_blocks(x, lens, of_blocks.block)?;
        let sums = of_blocks.norms[layer].forward(&sums)?;
        let [keys, values] = Linear::forward_all([&part.key, &part.value], &sums)?;
        let how = AttendToSums {
            scale: self.encoder.scale,
            reach: self.spec.reaches.get(layer).copied().unwrap_or(usize::MAX),
            block: of_blocks.block,
            near,
            far: &of_blocks.far,
        };
        attend_to_sums(
            all.each_ref(),
            [&keys, &values],
            self.encoder.heads,
            lens,
            &how,
        )
    }

    /// Computes the last token of each sequence: `step` has one token for each, `texts` in the same order one row for
    /// each whose blocks hold what was read. Logits of each.
    pub fn write(&self, step: &Step, texts: &Step, kv: &mut KvCache) -> Result<Rows> {
        let mut x = self.entry(&self.decoder, &step.ids, &step.positions)?;
        let cross_how = Attend {
            scale: self.decoder.scale,
            ..Attend::default()
        };
        for (layer, block) in self.decoder.blocks.iter().enumerate() {
            let own = of_layer(&self.own, layer).expect("there is one for all layers at least");
            x = block.attention.forward(&x, |part, x| {
                let projections = [&part.query, &part.key, &part.value];
                let [q, k, v] = Linear::forward_all(projections, x)?;
                let attended = attend(&q, &k, &v, kv.layer(layer), step, own)?;
                self.summed(part.out.forward(&attended)?)
            })?;
            if let Some(cross) = &block.cross {
                x = cross.forward(&x, |part, x| {
                    let q = part.query.forward(x)?;
                    let attended = attend_stored(&q, kv.layer(layer), texts, &cross_how)?;
                    self.summed(part.out.forward(&attended)?)
                })?;
            }
            x = block
                .mlp
                .forward(&x, |part, x| self.summed(part.forward(x)?))?;
        }
        if let Some(norm) = &self.decoder.final_norm {
            x = norm.forward(&x)?;
        }
        if let Some(scale) = self.spec.head_scale {
            x = (x * f64::from(scale))?;
        }
        Ok(Rows {
            numbers: self.logits(&x)?.flatten_all()?.to_vec1()?,
            width: self.spec.vocab,
        })
    }

    /// What all ranks' parts of a product add up to.
    fn summed(&self, part: Tensor) -> Result<Tensor> {
        match self.comm.world() {
            1 => Ok(part),
            _ => self.comm.all_reduce(&part),
        }
    }

    /// Logits of all words, of which each rank has some.
    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let (own, world) = (self.head.forward(x)?, self.comm.world());
        if world == 1 {
            return Ok(own);
        }
        let missing = self.spec.vocab.div_ceil(world) - own.dim(1)?;
        let padded = own.pad_with_zeros(1, 0, missing)?.contiguous()?;
        let all = self.comm.all_gather(&padded, 1)?;
        all.narrow(1, 0, self.spec.vocab)?.contiguous()
    }

    /// The positions of what is read: they count in each text, over the tokens that have one.
    fn counted(&self, ids: &[u32], lens: &[usize]) -> Vec<u32> {
        let padding = self.padding();
        let mut positions = Vec::with_capacity(ids.len());
        let mut rest = ids;
        for &len in lens {
            let (text, others) = rest.split_at(len);
            rest = others;
            let mut next = 0;
            positions.extend(text.iter().map(|&id| {
                let position = next;
                next += u32::from(Some(id) != padding);
                position
            }));
        }
        positions
    }

    /// The id of tokens without a position.
    fn padding(&self) -> Option<u32> {
        match self.spec.positions {
            Positions::Sinusoids(kind) => kind.padding(),
            _ => None,
        }
    }

    /// Embeddings with positions, `[tokens, width]`; fails on what would read beside the tables.
    fn entry(&self, stack: &Stack, ids: &[u32], positions: &[u32]) -> Result<Tensor> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.spec.vocab) {
            let vocab = self.spec.vocab;
            candle_core::bail!("token id {id} is not below {vocab}");
        }
        if positions.len() != ids.len() {
            let (tokens, positions) = (ids.len(), positions.len());
            candle_core::bail!("{tokens} tokens have {positions} positions");
        }
        let mut x = self.summed(self.embed.forward(ids)?)?;
        if let Some(scale) = self.spec.embed_scale {
            x = (x * f64::from(scale))?;
        }
        if let Some(table) = &stack.positions {
            let context = stack.context.unwrap_or(usize::MAX);
            if let Some(position) = positions.iter().find(|&&at| at as usize >= context) {
                candle_core::bail!("position {position} is not below {context}");
            }
            let padding = self.padding();
            let rows = ids.iter().zip(positions).map(|(&id, &position)| {
                // The row behind all positions is zero.
                if Some(id) == padding {
                    context as u32
                } else {
                    position
                }
            });
            x = add(&x, &table.forward(&rows.collect::<Vec<_>>())?)?;
        }
        match &stack.embed_norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        }
    }
}

/// What a layer has, where all have one or each has its own.
fn of_layer<T>(all: &[T], layer: usize) -> Option<&T> {
    all.get(layer).or(all.first())
}

impl Sums {
    fn load(loader: &mut Seq2SeqLoader<'_>) -> std::result::Result<Option<Self>, LoadError> {
        let Some(block) = loader.spec.block else {
            return Ok(None);
        };
        let far = loader.block_distances()?;
        let layers = loader.dims(Side::Encoder).layers;
        let norm = |layer| loader.norm(Side::Encoder, Seat::SumsNorm, layer);
        let norms = (0..layers)
            .map(norm)
            .collect::<std::result::Result<_, _>>()?;
        Ok(Some(Self { block, far, norms }))
    }
}

impl Stack {
    fn load(loader: &mut Seq2SeqLoader<'_>, side: Side) -> std::result::Result<Self, LoadError> {
        let (dims, spec) = (loader.dims(side), loader.spec);
        let mut norm = |on: bool, seat| on.then(|| loader.norm(side, seat, 0)).transpose();
        let embed_norm = norm(spec.embed_norm, Seat::EmbedNorm)?;
        let final_norm = norm(spec.final_norm, Seat::FinalNorm)?;
        let blocks = (0..dims.layers).map(|layer| Block::load(loader, side, layer));
        let blocks = blocks.collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            positions: loader.positions(side)?,
            embed_norm,
            blocks,
            final_norm,
            heads: loader.share(side).heads(),
            context: dims.context,
            scale: spec.scale.unwrap_or((dims.head as f32).sqrt().recip()),
        })
    }
}
