//! A request that has been understood: what the engine's thread needs to make its pictures.

use sconce_core::{PictureFormat, Preview};

use crate::schedulers::Scheduler;

/// A text as each encoder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// Ids for each encoder, filled up to its context.
    pub(crate) ids: Vec<Vec<u32>>,
}

/// What predictions are led away from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opposite {
    /// Nothing: predictions are taken as they are.
    Unguided,
    /// No text at all: its states are zeros.
    Zeros,
    /// A text for each prompt.
    Words(Vec<Words>),
}

/// A picture to begin with, and where it is replaced.
pub(crate) struct Begun {
    /// `[height, width, 3]` from -1 to 1.
    pub(crate) picture: Vec<f32>,
    /// `[height, width]`, 1 where it is replaced.
    pub(crate) mask: Option<Vec<f32>>,
    /// How much is replaced.
    pub(crate) strength: f64,
}

/// Pictures that are wanted.
pub(crate) struct Drawing {
    pub(crate) prompts: Vec<Words>,
    pub(crate) opposite: Opposite,
    pub(crate) images_per_prompt: usize,
    /// Height and width in pixels.
    pub(crate) size: [usize; 2],
    pub(crate) scheduler: Scheduler,
    /// Steps that were asked for.
    pub(crate) steps: usize,
    pub(crate) guidance: f64,
    pub(crate) guidance_rescale: f64,
    pub(crate) clip_skip: Option<usize>,
    /// Numbers that SDXL is told with the text, and with the opposite.
    pub(crate) numbers: Option<[Vec<f32>; 2]>,
    pub(crate) seed: u64,
    pub(crate) begun: Option<Begun>,
    pub(crate) format: PictureFormat,
    pub(crate) tells: Option<Preview>,
    /// Tokens of all texts, only counted.
    pub(crate) tokens: usize,
}

impl Drawing {
    /// All pictures.
    pub(crate) fn images(&self) -> usize {
        self.prompts.len() * self.images_per_prompt
    }

    /// Whether every step has a second prediction.
    pub(crate) fn is_guided(&self) -> bool {
        self.opposite != Opposite::Unguided
    }
}
