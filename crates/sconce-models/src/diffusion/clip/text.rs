//! The text encoder: `CLIPTextModel` and `CLIPTextModelWithProjection` of transformers.

use std::path::Path;

use candle_core::{Result, Tensor};
use sconce_nn::weights::WeightSource;
use sconce_nn::{Embedding, Linear, Norm, add};

use super::block::{ClipBlock, ClipDims};
use crate::HfConfig;
use crate::config_error::ConfigError;
use crate::decoder::{Footprint, LoadError, LoadOptions, Tensors};
use crate::diffusion::{Component, rows};
use crate::layers::{Expected, Layers, Role};

const EXPECTED: Expected = Expected {
    keys: "vocab_size, max_position_embeddings, hidden_size, projection_dim",
    hint: "; does the folder hold a CLIP text encoder?",
};

/// `eos_token_id` of configurations from before it was right: the last token is then that with the highest id.
const LEGACY_EOS: usize = 2;

/// What `config.json` says of a text encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipTextSpec {
    /// Sizes of the layers.
    pub dims: ClipDims,
    /// Longest text in tokens.
    pub context: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// The token whose state stands for the text; `None`: that with the highest id.
    pub eos: Option<u32>,
    /// Width of the vector of a text, of those that make one.
    pub projection: Option<usize>,
}

impl ClipTextSpec {
    /// Reads `config.json` of `dir`.
    pub fn read(dir: &Path) -> std::result::Result<Self, ConfigError> {
        let config = HfConfig::read(dir)?;
        config.refuse_unless("model_type", &["clip_text_model"])?;
        let projects = config
            .architectures()?
            .contains(&"CLIPTextModelWithProjection");
        let width = config.size_or("projection_dim", 512)?;
        let eos = config.count("eos_token_id", 49407)?;
        Ok(Self {
            dims: ClipDims::read(&config, [512, 2048, 12, 8])?,
            context: config.size_or("max_position_embeddings", 77)?,
            vocab: config.size_or("vocab_size", 49408)?,
            eos: (eos != LEGACY_EOS).then_some(eos as u32),
            projection: projects.then_some(width),
        })
    }
}

/// What a text encoder makes of texts.
#[derive(Clone, Debug)]
pub struct TextStates {
    /// The states between layers, from the embeddings to what the last layer gives, `[texts * tokens, width]` each.
    pub hidden: Vec<Tensor>,
    /// The normalised result of the last layer.
    pub last: Tensor,
    /// A vector for each text, `[texts, projection]`, of encoders that make one.
    pub pooled: Option<Tensor>,
}

/// A text encoder.
#[derive(Debug)]
pub struct ClipText {
    embed: Embedding,
    positions: Embedding,
    blocks: Vec<ClipBlock>,
    final_norm: Norm,
    projection: Option<Linear>,
    eos: Option<u32>,
}

impl Component for ClipText {
    type Spec = ClipTextSpec;

    fn of(
        spec: &Self::Spec,
        source: &dyn WeightSource,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<(Self, Footprint), LoadError> {
        const EMBED: &str = "text_model.embeddings.token_embedding";
        let mut layers = Layers::new(Tensors::new(source, EMBED, progress), *options);
        let width = spec.dims.width;
        let embed = layers.table(EMBED, [spec.vocab, width], EXPECTED)?;
        let positions = "text_model.embeddings.position_embedding";
        let positions = layers.table(positions, [spec.context, width], EXPECTED)?;
        let blocks = (0..spec.dims.layers).map(|layer| {
            let prefix = format!("text_model.encoder.layers.{layer}");
            ClipBlock::load(&mut layers, &prefix, &spec.dims)
        });
        let blocks = blocks.collect::<std::result::Result<_, _>>()?;
        let norm = "text_model.final_layer_norm";
        let final_norm = layers.norm(norm, spec.dims.norm(), width, EXPECTED)?;
        let projection = spec
            .projection
            .map(|to| layers.linear("text_projection", [to, width], false, Role::Whole, EXPECTED));
        let projection = projection.transpose()?;
        let Layers {
            tensors, footprint, ..
        } = layers;
        tensors.finish(&["position_ids"])?;
        let model = Self {
            embed,
            positions,
            blocks,
            final_norm,
            projection,
            eos: spec.eos,
        };
        Ok((model, footprint))
    }
}

impl ClipText {
    /// Reads `texts` texts of equally many tokens, which lie end to end.
    pub fn forward(&self, ids: &[u32], texts: usize) -> Result<TextStates> {
        let len = ids.len() / texts.max(1);
        let places: Vec<u32> = (0..ids.len()).map(|at| (at % len.max(1)) as u32).collect();
        let mut x = add(&self.embed.forward(ids)?, &self.positions.forward(&places)?)?;
        let mut hidden = vec![x.clone()];
        for block in &self.blocks {
            x = block.forward(&x, texts, true)?;
            hidden.push(x.clone());
        }
        let last = self.normalised(&x)?;
        let pooled = self.projection.as_ref().map(|projection| {
            let ends = ids.chunks(len.max(1)).enumerate();
            let ends: Vec<usize> = ends.map(|(text, ids)| text * len + self.end(ids)).collect();
            projection.forward(&rows(&last, &ends)?)
        });
        Ok(TextStates {
            hidden,
            last,
            pooled: pooled.transpose()?,
        })
    }

    /// States between layers as the norm behind the last layer makes them.
    pub fn normalised(&self, x: &Tensor) -> Result<Tensor> {
        self.final_norm.forward(x)
    }

    /// Where the token is that stands for the text.
    fn end(&self, ids: &[u32]) -> usize {
        let found = match self.eos {
            Some(eos) => ids.iter().position(|id| *id == eos),
            None => {
                let highest = ids.iter().max();
                ids.iter().position(|id| Some(id) == highest)
            }
        };
        found.unwrap_or(0)
    }
}
