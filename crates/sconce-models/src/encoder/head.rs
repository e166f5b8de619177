//! What stands on an encoder for a task: a chain of pooling, projection, norm and output, described as data and loaded.

use candle_core::{Result, Tensor};
use sconce_nn::weights::Matrix;
use sconce_nn::{Act, Linear, Norm, RowSums};

use super::load::EncoderLoader;
use crate::decoder::{LoadError, NormKind};

/// What an encoder with a head gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadKind {
    /// Logits of the classes of a text.
    Sequence,
    /// Logits of the classes of each token.
    Tokens,
    /// Logits of each token for being the first, and the last, of an answer.
    Span,
    /// Logits of the words for each token.
    Mask,
}

/// A head without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSpec {
    /// What it looks at.
    pub over: Over,
    /// A projection with an activation.
    pub dense: Option<Dense>,
    /// The name of a norm behind it, and its kind.
    pub norm: Option<(&'static str, NormKind)>,
    /// The projection to the outputs.
    pub out: Out,
    /// How many outputs there are.
    pub outputs: usize,
    /// The keys of `config.json` that say so.
    pub keys: &'static str,
}

/// What a head looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The first token of each text.
    First,
    /// The mean of its tokens.
    Mean,
    /// Each token.
    Each,
}

/// A projection with an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dense {
    /// Its name.
    pub name: &'static str,
    /// Whether it adds a bias.
    pub bias: bool,
    /// The activation.
    pub act: Act,
    /// Its outputs.
    pub width: usize,
}

/// The projection to the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// A tensor of its own.
    Own {
        /// Its name.
        name: &'static str,
        /// Whether it adds a bias.
        bias: bool,
    },
    /// The embedding of tokens, used again, unless the checkpoint has another.
    Tied {
        /// The name of a tensor that may be there all the same.
        name: &'static str,
        /// Names of the bias: the first that is there.
        biases: &'static [&'static str],
    },
}

/// A head with its weights.
pub(super) struct Head {
    over: Over,
    dense: Option<(Linear, Act)>,
    norm: Option<Norm>,
    out: Linear,
}

impl Head {
    pub(super) fn load(
        loader: &mut EncoderLoader<'_>,
        spec: &HeadSpec,
        width: usize,
        embedding: Option<&Matrix>,
    ) -> std::result::Result<Self, LoadError> {
        let dense = match spec.dense {
            None => None,
            Some(dense) => {
                let shape = [dense.width, width];
                Some((
                    loader.head_linear(dense.name, shape, dense.bias, "hidden_size")?,
                    dense.act,
                ))
            }
        };
        let width = spec.dense.map_or(width, |dense| dense.width);
        let norm = match spec.norm {
            None => None,
            Some((name, kind)) => Some(loader.head_norm(name, kind, width)?),
        };
        let out = match spec.out {
            Out::Own { name, bias } => {
                loader.head_linear(name, [spec.outputs, width], bias, spec.keys)?
            }
            Out::Tied { name, biases } => {
                let embedding = embedding.expect("kept for the head that is tied to it");
                loader.tied(name, biases, embedding)?
            }
        };
        Ok(Self {
            over: spec.over,
            dense,
            norm,
            out,
        })
    }

    /// `[texts, outputs]`, or for heads over each token `[tokens, outputs]`, of `wanted` tokens only if they are named.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        lens: &[usize],
        wanted: Option<&[u32]>,
    ) -> Result<Tensor> {
        let mut x = match (self.over, wanted) {
            (Over::First, _) => {
                let firsts: Vec<u32> = starts(lens).map(|start| start as u32).collect();
                picked(x, &firsts)?
            }
            (Over::Mean, _) => means(x, lens)?,
            (Over::Each, None) => x.clone(),
            (Over::Each, Some(wanted)) => picked(x, wanted)?,
        };
        if let Some((dense, act)) = &self.dense {
            x = act.apply(&dense.forward(&x)?)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        self.out.forward(&x)
    }
}

/// The first token of each text.
fn starts(lens: &[usize]) -> impl Iterator<Item = usize> {
    lens.iter()
        .scan(0, |next, len| Some(std::mem::replace(next, *next + len)))
}

/// These rows.
pub(super) fn picked(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let width = x.dim(1)?;
    if rows.is_empty() {
        return Tensor::zeros((0, width), candle_core::DType::F32, x.device());
    }
    x.index_select(&Tensor::new(rows, x.device())?, 0)
}

/// The mean of each text's rows, summed in their order.
fn means(x: &Tensor, lens: &[usize]) -> Result<Tensor> {
    let mut sums = RowSums::zeros(lens.len(), x.dim(1)?);
    let mut rows = Vec::new();
    let mut weights = Vec::new();
    for (text, &len) in lens.iter().enumerate() {
        rows.extend(std::iter::repeat_n(text as u32, len));
        weights.extend(std::iter::repeat_n(1.0 / len as f32, len));
    }
    sums.add(&rows, &weights, x)?;
    sums.into_tensor()
}

impl HeadSpec {
    /// Whether its output is the embedding, used again.
    pub(super) fn is_tied(&self) -> bool {
        matches!(self.out, Out::Tied { .. })
    }

    /// The first word of the names of its tensors.
    pub(super) fn prefix(&self) -> &'static str {
        let name = match self.out {
            Out::Own { name, .. } | Out::Tied { name, .. } => name,
        };
        name.split('.').next().unwrap_or(name)
    }
}
