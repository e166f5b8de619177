//! The decoder: one implementation for all families, driven by a [`Spec`]. It never asks which model it is.
//! Sampling, batching and the planning of the cache are left to the engine.

mod adapted;
mod attention;
mod block;
mod experts;
mod footprint;
mod kept;
mod layout;
mod load;
mod load_error;
mod mlp;
mod numbers;
mod qk_norm;
mod quantise;
mod rows;
mod share;
mod slots;
mod spec;
mod tensors;

use candle_core::{DType, Device, Result, Tensor};
use sconce_nn::weights::{Outlines, Rehearsal, WeightSource};
use sconce_nn::{
    Act, By, Communicator, DeviceMemory, Embedding, KvCache, KvDtype, KvShape, Linear, Norm,
    Placed, Replays, Rope, Scores, Solo, Step, add, columns, device_memory, rows, scale, to_host,
};

pub use footprint::{Footprint, Working};
pub(crate) use kept::holding;
pub use load::LoadOptions;
pub use load_error::LoadError;
pub use quantise::Quantisation;
pub use slots::{Axis, Slot, Split};
pub use spec::{
    Affine, Dims, Embed, Head, Layer, Logits, Mlp, NormKind, Pairing, Position, QkNorm, QkNormOver,
    Qkv, Residual, Routing, Shared, Spec,
};

pub(crate) use layout::rows_of_projection;
pub(crate) use quantise::Tally;
pub(crate) use rows::picked;
pub(crate) use share::Share;
pub(crate) use tensors::Tensors;

use std::sync::Arc;

use crate::adapter::Adapter;
use crate::arch::Arch;
use crate::model::Model;
use adapted::Adaptation;
use block::Block;
use load::{Loader, Tied};

/// A decoder with the weights of one rank.
pub struct Decoder {
    dims: Dims,
    share: Share,
    comm: Box<dyn Communicator + Send>,
    entry: Entry,
    ropes: Vec<Rope>,
    blocks: Vec<Block>,
    exit: Exit,
    cache: KvDtype,
    replays: Replays,
    found: Option<DeviceMemory>,
}

/// From token ids to the residual stream.
struct Entry {
    embed: Embedding,
    scale: Option<f32>,
    project: Option<Linear>,
    norm: Option<Norm>,
    positions: Option<Embedding>,
}

/// From the residual stream to logits.
struct Exit {
    norm: Option<Norm>,
    project: Option<Linear>,
    head: Linear,
    logits: Logits,
}

/// What is the same for all blocks of one forward pass.
pub(crate) struct Pass<'a> {
    pub(crate) step: &'a Placed<'a>,
    pub(crate) ropes: &'a [Rope],
    pub(crate) comm: &'a dyn Communicator,
    /// What adapters add to.
    pub(crate) adaptation: &'a Adaptation<'a>,
    /// Index of the block that computes.
    pub(crate) layer: usize,
}

impl Decoder {
    /// Loads the part of `comm`'s rank. `progress` is called with the bytes read so far and the bytes of the whole
    /// checkpoint. Weights stay where `source` has them unless a transpose, a cut or `options` need a copy.
    pub fn load(
        arch: &'static Arch,
        spec: &Spec,
        source: &dyn WeightSource,
        comm: Box<dyn Communicator + Send>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<Self, LoadError> {
        let share = Share::new(comm.rank(), comm.world(), spec.dims)?;
        let device = comm.device();
        let found = device_memory(&device);
        let options = LoadOptions {
            for_gpu: options.for_gpu || device.is_cuda(),
            ..*options
        };
        rehearse(arch, spec, (share, options), source)?;
        let loader = Loader::new(arch, spec, share, options, device, source, progress);
        let (mut decoder, _, tally) = Self::of(loader, spec, comm)?;
        decoder.found = found;
        if decoder.share.rank == 0 {
            tally.tell(options.quantise);
        }
        Ok(decoder)
    }

    /// What [`Decoder::load`] would keep in memory on the first of `world` ranks, which has as much as any but for
    /// rounding, and every error that it would end with, but for those of files that cannot be read: no weight is.
    pub fn survey(
        arch: &'static Arch,
        spec: &Spec,
        source: &dyn WeightSource,
        world: usize,
        options: &LoadOptions,
    ) -> std::result::Result<Footprint, LoadError> {
        let share = Share::new(0, world, spec.dims)?;
        let (outlines, mut nobody) = (Outlines(source), |_, _| {});
        let device = Device::Cpu;
        let loader = Loader::new(arch, spec, share, *options, device, &outlines, &mut nobody);
        Self::of(loader, spec, Box::new(Solo)).map(|(_, footprint, _)| footprint)
    }

    /// What [`Decoder::load`] keeps keys and values as.
    pub fn cache_dtype(
        arch: &'static Arch,
        source: &dyn WeightSource,
        options: &LoadOptions,
    ) -> KvDtype {
        numbers::cache_dtype(arch, source, options)
    }

    /// Takes all layers out of the loader.
    fn of(
        mut loader: Loader,
        spec: &Spec,
        comm: Box<dyn Communicator + Send>,
    ) -> std::result::Result<(Self, Footprint, Tally), LoadError> {
        let (share, cache) = (loader.share, loader.cache);
        // Which experts compute is the host's to say, in the middle of a step.
        let has_experts = spec.dims.experts > 0;
        let may_replay = !loader.options.eager && share.world == 1 && !has_experts;
        let (entry, embed_weight) = Entry::load(&mut loader, spec)?;
        let ropes = match &spec.position {
            Position::Rope(tables) => tables.iter().map(|table| loader.rope(table)).collect(),
            _ => Ok(Vec::new()),
        }?;
        let blocks = (0..spec.dims.layers).map(|layer| Block::load(&mut loader, spec, layer));
        let blocks = blocks.collect::<std::result::Result<_, _>>()?;
        let exit = Exit::load(&mut loader, spec, embed_weight)?;
        let replays = match may_replay {
            true => Replays::on(&comm.device()),
            false => Replays::default(),
        };
        let (footprint, tally) = loader.finish()?;
        let decoder = Self {
            dims: spec.dims,
            share,
            comm,
            entry,
            ropes,
            blocks,
            exit,
            cache,
            replays,
            found: None,
        };
        Ok((decoder, footprint, tally))
    }

    /// Logits of the sampled tokens where they are computed, `[sampled, vocab]`.
    fn compute(
        &mut self,
        step: &Step,
        adapters: &[Option<Arc<Adapter>>],
        kv: &mut KvCache,
    ) -> Result<Tensor> {
        self.check(step)?;
        let mut replays = std::mem::take(&mut self.replays);
        let mut compute = |placed: &Placed, kv: &mut KvCache| {
            let x = self.pass(placed, adapters, kv)?;
            match placed.sampled.is_empty() {
                true => Tensor::zeros((0, self.dims.vocab), DType::F32, &Device::Cpu),
                false => self.logits(x, &placed.sampled),
            }
        };
        let computed = replays.run(step, &self.ropes, kv, &mut compute);
        self.replays = replays;
        computed
    }

    /// The residual stream behind the last block, `[tokens, width]`.
    fn pass(
        &self,
        step: &Placed,
        adapters: &[Option<Arc<Adapter>>],
        kv: &mut KvCache,
    ) -> Result<Tensor> {
        let device = self.comm.device();
        let adaptation = Adaptation::of(step, adapters, self.share.rank);
        let mut pass = Pass {
            step,
            ropes: &self.ropes,
            comm: &*self.comm,
            adaptation: &adaptation,
            layer: 0,
        };
        let mut x = self.entry.forward(&pass)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            step.next_layer(&device);
            pass.layer = layer;
            x = block.forward(&x, kv.layer(layer), &pass)?;
        }
        step.next_layer(&device);
        Ok(x)
    }

    /// Logits of the sampled tokens; only these rows go through the largest matrix.
    fn logits(&self, mut x: Tensor, sampled: &[u32]) -> Result<Tensor> {
        let all = sampled.len() == x.dim(0)?
            && sampled
                .iter()
                .zip(0..)
                .all(|(&index, token)| index == token);
        if !all {
            x = rows(&x, sampled)?;
        }
        let mut logits = self.exit.forward(x)?;
        if self.share.world > 1 {
            let padded = columns(&logits, 0, self.share.vocab_stride())?;
            let gathered = self.comm.all_gather(&padded, 1)?;
            logits = columns(&gathered, 0, self.dims.vocab)?;
        }
        Ok(logits)
    }

    /// The number of steps that were recorded, to be played again.
    pub fn replays(&self) -> usize {
        self.replays.count()
    }

    /// Fails on what would read beside the tables.
    fn check(&self, step: &Step) -> Result<()> {
        let tokens = step.ids.len();
        let limits = [
            ("token id", &step.ids, self.dims.vocab),
            ("position", &step.positions, self.dims.context),
            ("sampled index", &step.sampled, tokens),
        ];
        for (what, values, limit) in limits {
            if let Some(value) = values.iter().find(|&&value| value as usize >= limit) {
                candle_core::bail!("{what} {value} of the step is not below {limit}");
            }
        }
        if step.positions.len() != tokens {
            candle_core::bail!(
                "the step has {tokens} tokens but {} positions",
                step.positions.len()
            );
        }
        Ok(())
    }
}

impl Model for Decoder {
    fn kv_shape(&self) -> KvShape {
        KvShape {
            layers: self.dims.layers,
            kv_heads: self.share.kv_heads(),
            head_dim: self.dims.head,
            dtype: self.cache,
        }
    }

    fn vocab(&self) -> usize {
        self.dims.vocab
    }

    fn device(&self) -> Device {
        self.comm.device()
    }

    fn found(&self) -> Option<DeviceMemory> {
        self.found
    }

    fn problem(&self) -> Option<&str> {
        self.replays.problem()
    }

    fn forward(
        &mut self,
        step: &Step,
        adapters: &[Option<Arc<Adapter>>],
        kv: &mut KvCache,
    ) -> Result<Tensor> {
        let logits = self.compute(step, adapters, kv)?;
        to_host(&logits, &|| self.comm.settle())
    }

    fn scores(
        &mut self,
        step: &Step,
        adapters: &[Option<Arc<Adapter>>],
        kv: &mut KvCache,
    ) -> Result<Scores> {
        let logits = self.compute(step, adapters, kv)?;
        if self.share.rank > 0 && logits.device().is_cuda() {
            // It has done its part when the first rank has all.
            self.comm.settle()?;
            return Tensor::zeros((0, self.dims.vocab), DType::F32, &Device::Cpu)
                .map(Scores::whole);
        }
        Scores::of(&logits, &step.best, &|| self.comm.settle())
    }
}

impl Entry {
    /// Also gives what a tied head is made of.
    fn load(
        loader: &mut Loader,
        spec: &Spec,
    ) -> std::result::Result<(Self, Option<Tied>), LoadError> {
        let (embed, tied) = loader.embedding()?;
        let projected = spec.dims.embed != spec.dims.width;
        let entry = Self {
            embed,
            scale: spec.embed.scale,
            project: (projected.then(|| loader.linear(Slot::EmbedIn, 0))).transpose()?,
            norm: (spec.embed.norm.then(|| loader.norm(Slot::EmbedNorm, 0))).transpose()?,
            positions: matches!(spec.position, Position::Learned)
                .then(|| loader.positions())
                .transpose()?,
        };
        Ok((entry, tied))
    }

    /// Embeddings of all tokens of the step, `[tokens, width]`.
    fn forward(&self, pass: &Pass) -> Result<Tensor> {
        let mut x = pass
            .comm
            .all_reduce(&self.embed.forward_step(pass.step, By::Ids)?)?;
        if let Some(scale) = self.scale {
            x = self::scale(&x, scale)?;
        }
        if let Some(project) = &self.project {
            x = project.forward(&x)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        match &self.positions {
            Some(table) => add(&x, &table.forward_step(pass.step, By::Positions)?),
            None => Ok(x),
        }
    }
}

/// Tells whoever fetches the numbers what this rank will read, so that they come before they are asked for.
fn rehearse(
    arch: &'static Arch,
    spec: &Spec,
    (share, options): (Share, LoadOptions),
    source: &dyn WeightSource,
) -> std::result::Result<(), LoadError> {
    if let Some(rehearsal) = Rehearsal::of(source) {
        let (device, mut nobody) = (Device::Cpu, |_, _| {});
        let loader = Loader::new(arch, spec, share, options, device, &rehearsal, &mut nobody);
        Decoder::of(loader, spec, Box::new(Solo))?;
        rehearsal.tell();
    }
    Ok(())
}

impl Exit {
    fn load(
        loader: &mut Loader,
        spec: &Spec,
        tied: Option<Tied>,
    ) -> std::result::Result<Self, LoadError> {
        let projected = spec.dims.embed != spec.dims.width;
        Ok(Self {
            norm: (spec.final_norm.then(|| loader.norm(Slot::FinalNorm, 0))).transpose()?,
            project: (projected.then(|| loader.linear(Slot::HeadIn, 0))).transpose()?,
            head: match tied {
                Some(tied) => loader.tied_head(tied)?,
                None => loader.linear(Slot::Head, 0)?,
            },
            logits: spec.logits,
        })
    }

    /// `[sampled, width]` to this rank's columns of the logits.
    fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        if let Some(project) = &self.project {
            x = project.forward(&x)?;
        }
        let mut logits = self.head.forward(&x)?;
        if let Some(scale) = self.logits.scale {
            logits = self::scale(&logits, scale)?;
        }
        match self.logits.softcap {
            Some(cap) => scale(&Act::Tanh.apply(&scale(&logits, 1.0 / cap)?)?, cap),
            None => Ok(logits),
        }
    }
}
