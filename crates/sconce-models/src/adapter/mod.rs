//! LoRA adapters as PEFT writes them, cut for the ranks of a decoder.
//!
//! `config` reads `adapter_config.json`, `place` knows which module of a family is which layer of the decoder, `load`
//! makes thin matrices of the tensors. Which rows of a step have which adapter is said with the step.

mod config;
mod error;
mod load;
mod place;

use sconce_nn::LowRank;

pub use config::adapter_rank;
pub use error::AdapterError;
pub use load::AdapterLoader;
pub(crate) use place::Place;

/// An adapter, cut for each rank.
#[derive(Debug)]
pub struct Adapter {
    ranks: Vec<RankAdapter>,
    /// The greatest rank of its matrices.
    pub rank: usize,
    /// Bytes that it takes, of all ranks.
    pub bytes: u64,
}

/// One rank's part of an adapter: what is added to the linear layers of each layer of the decoder.
#[derive(Debug)]
pub(crate) struct RankAdapter {
    layers: Vec<[Option<LowRank>; Place::ALL.len()]>,
}

impl Adapter {
    /// The part of one rank.
    pub(crate) fn of_rank(&self, rank: usize) -> &RankAdapter {
        &self.ranks[rank]
    }
}

impl RankAdapter {
    fn new(layers: usize) -> Self {
        let layers = (0..layers).map(|_| Default::default());
        Self {
            layers: layers.collect(),
        }
    }

    /// What is added to one linear layer.
    pub(crate) fn part(&self, layer: usize, place: Place) -> Option<&LowRank> {
        self.layers[layer][place as usize].as_ref()
    }
}
