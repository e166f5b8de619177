//! The index of a sharded checkpoint: which file holds which tensor. The same for safetensors and torch files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::checkpoint::{Checkpoint, Format, is_lfs_pointer};
use super::error::WeightError;

/// What an index is called in errors.
pub(crate) const FORMAT: &str = "checkpoint index";

/// Reads the index, then all its shards, and checks that they fit together.
/// Tensors that lie in a shard without being in the index stay readable.
pub(crate) fn read(index: &Path, format: Format) -> Result<Checkpoint, WeightError> {
    let weight_map = weight_map(index)?;
    let folder = index.parent().unwrap_or(Path::new(""));
    let names: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
    let mut missing = Vec::new();
    for name in &names {
        if !is_plain(name) {
            return Err(malformed(
                index,
                format!("shard `{name}` is not a file beside the index"),
            ));
        }
        if !folder.join(name).exists() {
            missing.push((*name).to_owned());
        }
    }
    if !missing.is_empty() {
        return Err(WeightError::MissingShards {
            index: index.to_owned(),
            missing,
        });
    }
    let shards: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let checkpoint = Checkpoint::read(index.to_owned(), format, shards)?;
    let lost: Vec<_> = weight_map
        .iter()
        .filter(|(tensor, shard)| !checkpoint.holds(tensor, &folder.join(shard)))
        .collect();
    match lost.first() {
        None => Ok(checkpoint),
        Some((name, shard)) => Err(WeightError::NotInShard {
            index: index.to_owned(),
            name: (*name).clone(),
            shard: (*shard).clone(),
            count: lost.len(),
        }),
    }
}

/// Tensor name → file name, as the index states it.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>, WeightError> {
    let bytes = fs::read(index).map_err(|cause| WeightError::Read {
        path: index.to_owned(),
        cause,
    })?;
    if is_lfs_pointer(&bytes) {
        return Err(WeightError::LfsPointer {
            path: index.to_owned(),
        });
    }
    let content: Value =
        serde_json::from_slice(&bytes).map_err(|cause| malformed(index, cause.to_string()))?;
    let Some(map) = content.get("weight_map").and_then(Value::as_object) else {
        return Err(malformed(index, "it has no object `weight_map`".to_owned()));
    };
    if map.is_empty() {
        return Err(malformed(
            index,
            "its `weight_map` names no tensors".to_owned(),
        ));
    }
    map.iter()
        .map(|(tensor, shard)| match shard {
            Value::String(shard) => Ok((tensor.clone(), shard.clone())),
            other => Err(malformed(
                index,
                format!("the shard of `{tensor}` is {other}, not a file name"),
            )),
        })
        .collect()
}

/// Whether the name stays in the folder of the index.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    )
}

fn malformed(index: &Path, problem: String) -> WeightError {
    WeightError::Malformed {
        path: index.to_owned(),
        format: FORMAT,
        problem,
    }
}
