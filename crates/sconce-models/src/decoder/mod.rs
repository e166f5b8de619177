//! The decoder: one implementation for all families, driven by a [`Spec`]. It never asks which model it is.
//! Sampling, batching and the planning of the cache are left to the engine.

mod attention;
mod block;
mod load;
mod load_error;
mod mlp;
mod share;
mod slots;
mod spec;
mod tensors;

use candle_core::{DType, Device, Result, Tensor};
use sconce_nn::weights::WeightSource;
use sconce_nn::{Communicator, Embedding, KvCache, KvShape, Linear, Norm, Rope, Step};

pub use load::LoadOptions;
pub use load_error::LoadError;
pub use slots::{Axis, Slot, Split};
pub use spec::{Dims, Head, Mlp, NormKind, Position, Qkv, Residual, Scale, Spec};

use crate::arch::Arch;
use crate::model::Model;
use block::Block;
use load::Loader;
use share::Share;

/// A decoder with the weights of one rank.
pub struct Decoder {
    dims: Dims,
    share: Share,
    comm: Box<dyn Communicator + Send>,
    embed: Embedding,
    place: Place,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
}

/// How tokens know their place, with the tables for it.
enum Place {
    Learned(Embedding),
    Rope(Rope),
}

/// What is the same for all blocks of one forward pass.
pub(crate) struct Pass<'a> {
    pub(crate) step: &'a Step,
    pub(crate) rope: Option<&'a Rope>,
    pub(crate) comm: &'a dyn Communicator,
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
        let mut loader = Loader::new(arch, spec, share, *options, source, progress);
        let (embed, embed_weight) = loader.embedding()?;
        let place = match &spec.position {
            Position::Learned => Place::Learned(loader.positions()?),
            Position::Rope(rope) => Place::Rope(loader.rope(rope)?),
        };
        let blocks =
            (0..spec.dims.layers).map(|layer| Block::load(&mut loader, spec, share, layer));
        let blocks = blocks.collect::<std::result::Result<_, _>>()?;
        let norm = loader.norm(Slot::FinalNorm, 0)?;
        let head = match spec.head {
            Head::Tied => loader.tied_head(embed_weight)?,
            Head::Own => loader.linear(Slot::Head, 0)?,
        };
        loader.finish()?;
        Ok(Self {
            dims: spec.dims,
            share,
            comm,
            embed,
            place,
            blocks,
            norm,
            head,
        })
    }

    /// Embeddings of all tokens of the step, `[tokens, width]`.
    fn embed(&self, step: &Step) -> Result<Tensor> {
        let x = self.comm.all_reduce(&self.embed.forward(&step.ids)?)?;
        match &self.place {
            Place::Learned(table) => x + table.forward(&step.positions)?,
            Place::Rope(_) => Ok(x),
        }
    }

    /// Logits of the sampled tokens, `[sampled, vocab]`; only these rows go through the largest matrix.
    fn logits(&self, x: &Tensor, sampled: &[u32]) -> Result<Tensor> {
        if sampled.is_empty() {
            return Tensor::zeros((0, self.dims.vocab), DType::F32, &Device::Cpu);
        }
        let all = sampled.len() == x.dim(0)?
            && sampled
                .iter()
                .zip(0..)
                .all(|(&index, token)| index == token);
        let x = if all {
            x.clone()
        } else {
            x.index_select(&Tensor::new(sampled, x.device())?, 0)?
        };
        let logits = self.head.forward(&self.norm.forward(&x)?)?;
        if self.share.world == 1 {
            return Ok(logits);
        }
        let padding = self.share.vocab_stride() - self.head.out_features();
        let logits = self
            .comm
            .all_gather(&logits.pad_with_zeros(1, 0, padding)?.contiguous()?, 1)?;
        logits.narrow(1, 0, self.dims.vocab)?.contiguous()
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
        }
    }

    fn vocab(&self) -> usize {
        self.dims.vocab
    }

    fn forward(&mut self, step: &Step, kv: &mut KvCache) -> Result<Tensor> {
        self.check(step)?;
        let mut x = self.embed(step)?;
        let rope = match &self.place {
            Place::Rope(rope) => Some(rope),
            Place::Learned(_) => None,
        };
        let pass = Pass {
            step,
            rope,
            comm: &*self.comm,
        };
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, kv.layer(layer), &pass)?;
        }
        self.logits(&x, &step.sampled)
    }
}
