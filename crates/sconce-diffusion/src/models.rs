//! The loaded parts of a pipeline.

use std::path::Path;

use sconce_models::LoadError;
use sconce_models::diffusion::{ClipText, Component, SafetyChecker, Unet, Vae};

use crate::description::DiffusionDescription;
use crate::error::DiffusionError;
use crate::settings::DiffusionSettings;

/// What the engine's thread computes with.
pub(crate) struct Models {
    pub(crate) texts: Vec<ClipText>,
    pub(crate) unet: Unet,
    pub(crate) vae: Vae,
    pub(crate) safety: Option<SafetyChecker>,
}

impl Models {
    /// Loads all weights; `progress` is called with the bytes read so far and those of all parts.
    pub(crate) fn load(
        description: &DiffusionDescription,
        settings: &DiffusionSettings,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, DiffusionError> {
        let total: u64 = description.stored();
        let (options, mut before) = (settings.load_options(), 0);
        let mut texts = Vec::new();
        for text in &description.texts {
            let part = &text.part;
            texts.push(in_part(&part.dir, total, &mut before, progress, |told| {
                ClipText::load(&part.spec, &*part.weights, &options, told)
            })?);
        }
        let part = &description.unet;
        let unet = in_part(&part.dir, total, &mut before, progress, |told| {
            Unet::load(&part.spec, &*part.weights, &options, told)
        })?;
        let (part, exact) = (&description.vae, description.vae_options(settings));
        let vae = in_part(&part.dir, total, &mut before, progress, |told| {
            Vae::load(&part.spec, &*part.weights, &exact, told)
        })?;
        let safety = description.safety.as_ref().map(|(part, _)| {
            in_part(&part.dir, total, &mut before, progress, |told| {
                SafetyChecker::load(&part.spec, &*part.weights, &options, told)
            })
        });
        Ok(Self {
            texts,
            unet,
            vae,
            safety: safety.transpose()?,
        })
    }
}

/// Loads one part, with its bytes counted to those before it.
fn in_part<T>(
    dir: &Path,
    total: u64,
    before: &mut u64,
    progress: &mut dyn FnMut(u64, u64),
    load: impl FnOnce(&mut dyn FnMut(u64, u64)) -> Result<T, LoadError>,
) -> Result<T, DiffusionError> {
    let (start, mut last) = (*before, 0);
    let loaded = load(&mut |done, _| {
        last = last.max(done);
        progress(start + done, total);
    });
    *before += last;
    loaded.map_err(|cause| DiffusionError::Load {
        dir: dir.to_owned(),
        cause: Box::new(cause),
    })
}
