//! `StableDiffusionSafetyChecker` of diffusers: which pictures are like concepts that are not to be shown.

use std::path::Path;

use candle_core::{Result, Tensor};
use sconce_nn::weights::WeightSource;

use super::Component;
use super::clip::{ClipVision, ClipVisionSpec};
use crate::config_error::ConfigError;
use crate::decoder::{Footprint, LoadError, LoadOptions, Tensors};
use crate::layers::{Expected, Layers};

/// Concepts, and those that make the others count sooner.
const CONCEPTS: usize = 17;
const SPECIAL: usize = 3;

/// How much sooner.
const ADJUSTMENT: f64 = 0.01;

const EXPECTED: Expected = Expected {
    keys: "projection_dim",
    hint: "; does the folder hold a safety checker?",
};

/// What `config.json` says of a safety checker.
#[derive(Clone, Debug, PartialEq)]
pub struct SafetySpec {
    /// Its image encoder.
    pub vision: ClipVisionSpec,
}

impl SafetySpec {
    /// Reads `config.json` of `dir`.
    pub fn read(dir: &Path) -> std::result::Result<Self, ConfigError> {
        Ok(Self {
            vision: ClipVisionSpec::read(dir)?,
        })
    }
}

/// The model.
#[derive(Debug)]
pub struct SafetyChecker {
    vision: ClipVision,
    concepts: Concepts,
    special: Concepts,
}

/// Vectors, and how like them a picture may be.
#[derive(Debug)]
struct Concepts {
    vectors: Vec<f32>,
    thresholds: Vec<f32>,
    width: usize,
}

impl Component for SafetyChecker {
    type Spec = SafetySpec;

    fn of(
        spec: &Self::Spec,
        source: &dyn WeightSource,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> std::result::Result<(Self, Footprint), LoadError> {
        let mut layers = Layers::new(
            Tensors::new(source, "visual_projection", progress),
            *options,
        );
        let vision = ClipVision::load(&mut layers, &spec.vision)?;
        let width = spec.vision.projection;
        let mut concepts = |vectors: &str, count: usize| {
            Ok::<_, LoadError>(Concepts {
                vectors: layers.values(vectors, &[count, width], EXPECTED)?,
                thresholds: layers.values(&format!("{vectors}_weights"), &[count], EXPECTED)?,
                width,
            })
        };
        let (special, concepts) = (
            concepts("special_care_embeds", SPECIAL)?,
            concepts("concept_embeds", CONCEPTS)?,
        );
        let Layers {
            tensors, footprint, ..
        } = layers;
        tensors.finish(&["position_ids"])?;
        let model = Self {
            vision,
            concepts,
            special,
        };
        Ok((model, footprint))
    }
}

impl SafetyChecker {
    /// Whether a picture `[1, height, width, 3]`, prepared as its feature extractor says, is not to be shown.
    pub fn flags(&self, picture: &Tensor) -> Result<bool> {
        let vector = self
            .vision
            .forward(picture)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        // Nothing is more alike than allowed to what is no number.
        if vector.iter().any(|x| !x.is_finite()) {
            candle_core::bail!(
                "the safety checker gave numbers that are not finite; its weights are damaged"
            );
        }
        let special = self.special.scores(&vector, 0.0).any(|score| score > 0.0);
        let adjustment = if special { ADJUSTMENT } else { 0.0 };
        Ok(self
            .concepts
            .scores(&vector, adjustment)
            .any(|score| score > 0.0))
    }
}

impl Concepts {
    /// How much more alike than it may be, rounded as the reference does.
    fn scores(&self, vector: &[f32], adjustment: f64) -> impl Iterator<Item = f64> {
        let length = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let own = length(vector);
        let all = self.vectors.chunks_exact(self.width).zip(&self.thresholds);
        all.map(move |(concept, threshold)| {
            let terms = concept.iter().zip(vector);
            let dot: f64 = terms.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            let likeness = dot / (own * length(concept));
            ((likeness - f64::from(*threshold) + adjustment) * 1000.0).round() / 1000.0
        })
    }
}
