//! What the configurations of diffusers have beside those of transformers: lists with an entry for each block.

use serde_json::Value;

use crate::HfConfig;
use crate::config_error::ConfigError;

/// A whole number of at least 1 for each of so many blocks: a list, or one for all; `default` when absent.
pub(super) fn sizes(
    config: &HfConfig,
    key: &str,
    blocks: usize,
    default: Option<usize>,
) -> Result<Vec<usize>, ConfigError> {
    match config.find(key) {
        Some((key, Value::Array(list))) => {
            let read: Option<Vec<usize>> = list.iter().map(size).collect();
            let read = read.filter(|read| read.len() == blocks);
            let wanted = || format!("a whole number from 1 for each of {blocks} blocks");
            read.ok_or_else(|| config.wrong(key, &Value::Array(list.clone()), &wanted()))
        }
        Some(_) => config.size(key).map(|size| vec![size; blocks]),
        None => match default {
            Some(size) => Ok(vec![size; blocks]),
            None => config.size(key).map(|size| vec![size; blocks]),
        },
    }
}

fn size(value: &Value) -> Option<usize> {
    let number = value
        .as_u64()
        .filter(|number| (1..=1 << 31).contains(number));
    number.map(|number| number as usize)
}

/// The channels of the blocks.
pub(super) fn channels(config: &HfConfig, default: &[usize]) -> Result<Vec<usize>, ConfigError> {
    let Some((key, value)) = config.find("block_out_channels") else {
        return Ok(default.to_vec());
    };
    let read: Option<Vec<usize>> = value
        .as_array()
        .and_then(|list| list.iter().map(size).collect());
    let read = read.filter(|read| !read.is_empty());
    read.ok_or_else(|| config.wrong(key, value, "a list of whole numbers from 1"))
}

/// Which of two kinds each of so many blocks is of: true for the first name, false for the second, if there is one.
pub(super) fn kinds(
    config: &HfConfig,
    key: &str,
    (blocks, names): (usize, &[&str]),
    default: &[&str],
) -> Result<Vec<bool>, ConfigError> {
    let Some((key, value)) = config.find(key) else {
        return Ok(default.iter().map(|name| *name == names[0]).collect());
    };
    let kind = |value: &Value| {
        let at = names.iter().position(|name| value.as_str() == Some(name))?;
        Some(at == 0)
    };
    let read: Option<Vec<bool>> = value
        .as_array()
        .and_then(|list| list.iter().map(kind).collect());
    match read {
        Some(read) if read.len() == blocks => Ok(read),
        Some(_) => Err(config.wrong(key, value, &format!("one for each of {blocks} blocks"))),
        None => Err(config.unsupported(key, value, &format!("a list of {}", names.join(", ")))),
    }
}

/// Refuses a value other than the one that is implemented, which is the default.
pub(super) fn require(config: &HfConfig, key: &str, only: &Value) -> Result<(), ConfigError> {
    match config.find(key) {
        Some((_, value))
            if value == only || value.as_f64().is_some_and(|x| only.as_f64() == Some(x)) =>
        {
            Ok(())
        }
        None => Ok(()),
        Some(_) => config.refuse(key, &only.to_string()),
    }
}
