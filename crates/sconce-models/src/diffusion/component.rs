//! A model of a pipeline's: loaded from its folder, or only counted.

use sconce_nn::weights::{Outlines, WeightSource};

use crate::decoder::{Footprint, LoadError, LoadOptions};

/// A model that is one of several in a folder.
pub trait Component: Sized {
    /// What its configuration says.
    type Spec;

    /// Takes all weights; beside it what they take in memory. `progress` is called with the bytes read so far and those of
    /// the whole checkpoint.
    fn of(
        spec: &Self::Spec,
        source: &dyn WeightSource,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Self, Footprint), LoadError>;

    /// Loads the weights, with progress as [`Self::of`] tells it.
    fn load(
        spec: &Self::Spec,
        source: &dyn WeightSource,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, LoadError> {
        Self::of(spec, source, options, progress).map(|(model, _)| model)
    }

    /// What [`Self::load`] would keep in memory, and its errors, from headers alone.
    fn survey(
        spec: &Self::Spec,
        source: &dyn WeightSource,
        options: &LoadOptions,
    ) -> Result<Footprint, LoadError> {
        Self::of(spec, &Outlines(source), options, &mut |_, _| {}).map(|(_, footprint)| footprint)
    }
}
