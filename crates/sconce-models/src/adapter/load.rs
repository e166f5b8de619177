//! From the tensors of an adapter to thin matrices, cut as the layers are that they add to.
//!
//! Of layers whose outputs are cut, each rank has all of `lora_A` and its rows of `lora_B`; of those whose inputs are
//! cut, its columns of `lora_A` and all of `lora_B`, as what ranks give there is summed anyhow.

use std::collections::BTreeMap;
use std::path::Path;

use sconce_nn::LowRank;
use sconce_nn::weights::{HostTensor, StoredDtype, WeightSource, open_adapter};

use super::config::AdapterConfig;
use super::error::AdapterError;
use super::place::{self, Place};
use super::{Adapter, RankAdapter};
use crate::arch::Arch;
use crate::decoder::{LoadError, Qkv, Share, Slot, Spec, picked, rows_of_projection};

/// What PEFT puts before the name of a module.
const PREFIX: &str = "base_model.model.";
const DOWN: &str = ".lora_A.weight";
const UP: &str = ".lora_B.weight";

/// Loads the adapters of one model.
#[derive(Clone, Debug)]
pub struct AdapterLoader {
    arch: &'static Arch,
    spec: Spec,
    shares: Vec<Share>,
    dtype: Option<StoredDtype>,
    most_rank: usize,
}

/// The two matrices of a module.
struct Module {
    name: String,
    slot: Slot,
    layer: usize,
    down: HostTensor,
    up: HostTensor,
}

impl AdapterLoader {
    /// For a model on `world` ranks. Matrices are kept as `dtype`; `None`: as they are stored.
    pub fn new(
        arch: &'static Arch,
        spec: &Spec,
        world: usize,
        dtype: Option<StoredDtype>,
        most_rank: usize,
    ) -> Result<Self, LoadError> {
        let shares = (0..world).map(|rank| Share::new(rank, world, spec.dims));
        Ok(Self {
            arch,
            spec: spec.clone(),
            shares: shares.collect::<Result<_, _>>()?,
            dtype,
            most_rank,
        })
    }

    /// Bytes that the largest adapter takes on the first rank.
    pub fn most_bytes(&self) -> u64 {
        let slots = self.arch.weights.iter().flat_map(|names| names.iter());
        let mut places: Vec<Place> = slots
            .flat_map(|(slot, _)| Place::of_slot(*slot))
            .copied()
            .collect();
        places.sort_by_key(|place| *place as usize);
        places.dedup();
        let one: u64 = places
            .into_iter()
            .map(|place| {
                let [outputs, inputs] = place.axes().map(|axis| self.shares[0].range(axis).len());
                LowRank::bytes(
                    self.most_rank,
                    inputs,
                    outputs,
                    self.dtype.unwrap_or(StoredDtype::F32),
                )
            })
            .sum();
        one * self.spec.dims.layers as u64
    }

    /// Loads the adapter in a folder.
    pub fn load(&self, dir: &Path) -> Result<Adapter, AdapterError> {
        let config = AdapterConfig::read(dir)?;
        let source = open_adapter(dir)?;
        let modules = self.modules(&*source)?;
        for target in &config.targets {
            let ends = |module: &Module| {
                module
                    .name
                    .strip_suffix(target.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            if !modules.iter().any(ends) {
                return Err(AdapterError::Absent {
                    file: config.file,
                    module: target.clone(),
                });
            }
        }
        let mut adapter = Adapter {
            ranks: self
                .shares
                .iter()
                .map(|_| RankAdapter::new(self.spec.dims.layers))
                .collect(),
            rank: 0,
            bytes: 0,
        };
        for module in &modules {
            let rank = module.down.shape()[0];
            adapter.rank = adapter.rank.max(rank);
            let scale = config.scale(&module.name, rank);
            for (share, part) in self.shares.iter().zip(&mut adapter.ranks) {
                for &place in Place::of_slot(module.slot) {
                    let made = self.part(share, module, place, scale)?;
                    adapter.bytes += made.byte_len();
                    part.layers[module.layer][place as usize] = Some(made);
                }
            }
        }
        Ok(adapter)
    }

    /// The modules of all tensors, none left over, each of the shape of its layer.
    fn modules(&self, source: &dyn WeightSource) -> Result<Vec<Module>, AdapterError> {
        let mut found: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
        for tensor in source.names() {
            let module = tensor.strip_prefix(PREFIX).unwrap_or(&tensor);
            let half = [DOWN, UP]
                .iter()
                .enumerate()
                .find_map(|(half, end)| Some((half, module.strip_suffix(end)?)));
            let Some((half, module)) = half else {
                return Err(self.no_place(tensor));
            };
            let module = module.to_owned();
            found.entry(module).or_default()[half] = Some(tensor);
        }
        found
            .into_iter()
            .map(|(name, halves)| match halves {
                [Some(down), Some(up)] => self.module(source, name, [down, up]),
                [Some(down), None] => Err(half(down, DOWN, UP)),
                [_, up] => Err(half(up.unwrap_or_default(), UP, DOWN)),
            })
            .collect()
    }

    fn module(
        &self,
        source: &dyn WeightSource,
        name: String,
        tensors: [String; 2],
    ) -> Result<Module, AdapterError> {
        let [down_name, up_name] = tensors;
        let Some((slot, layer)) = place::find(self.arch, &name) else {
            return Err(self.no_place(down_name));
        };
        let dims = &self.spec.dims;
        if layer >= dims.layers {
            return Err(AdapterError::Layer {
                tensor: down_name,
                layer,
                layers: dims.layers,
            });
        }
        let (down, up) = (source.get(&down_name)?, source.get(&up_name)?);
        let rank = down.shape().first().copied().unwrap_or(0);
        let [outputs, inputs] = [slot.axes()[0], slot.axes()[1]];
        for (tensor, found, wanted, keys) in [
            (
                &down_name,
                &down,
                [rank, inputs.len(dims)],
                format!("[rank, {}]", inputs.keys()),
            ),
            (
                &up_name,
                &up,
                [outputs.len(dims), rank],
                format!("[{}, rank]", outputs.keys()),
            ),
        ] {
            if found.shape() != wanted || rank == 0 {
                return Err(AdapterError::Shape {
                    tensor: tensor.clone(),
                    found: found.shape().to_vec(),
                    wanted: format!("{wanted:?}: {keys}"),
                });
            }
        }
        if rank > self.most_rank {
            let most = self.most_rank;
            return Err(AdapterError::Rank { rank, most });
        }
        Ok(Module {
            name,
            slot,
            layer,
            down,
            up,
        })
    }

    /// One rank's part of one layer.
    fn part(
        &self,
        share: &Share,
        module: &Module,
        place: Place,
        scale: f32,
    ) -> Result<LowRank, AdapterError> {
        let [_, inputs] = place.axes();
        let columns = share.range(inputs);
        let down = module.down.narrow(1, columns.start, columns.len())?;
        let rows = self.rows(share, module.slot, place);
        let up = picked(&module.up, &rows)?;
        Ok(LowRank::new(
            &down,
            &up,
            scale,
            self.dtype.unwrap_or(module.down.dtype()),
        )?)
    }

    /// The rows of `lora_B` that a rank needs, in the order of its layer's outputs.
    fn rows(&self, share: &Share, slot: Slot, place: Place) -> Vec<usize> {
        let qkv = match slot {
            Slot::Qkv => self.spec.qkv,
            _ => Qkv::Split,
        };
        if let Some(rows) = rows_of_projection(&self.spec, qkv, share, place) {
            return rows;
        }
        let [outputs, _] = place.axes();
        let before = match (slot, place) {
            (Slot::GateUp, Place::Up) => self.spec.dims.inner,
            _ => 0,
        };
        share.range(outputs).map(|row| before + row).collect()
    }

    fn no_place(&self, tensor: String) -> AdapterError {
        AdapterError::NoPlace {
            tensor,
            family: self.arch.names[0],
        }
    }
}

fn half(there: String, end: &str, other: &str) -> AdapterError {
    let missing = there.replace(end, other);
    AdapterError::Half { there, missing }
}
