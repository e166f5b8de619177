//! A safetensors file of what a reference implementation computed: tokens and numbers by name.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

/// The file in memory.
#[derive(Clone, Debug)]
pub struct Reference {
    bytes: Vec<u8>,
}

impl Reference {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        SafeTensors::deserialize(&bytes).with_context(|| path.display().to_string())?;
        Ok(Self { bytes })
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let tensors = SafeTensors::deserialize(&self.bytes)?;
        let mut names: Vec<String> = tensors.names().into_iter().map(Into::into).collect();
        names.sort();
        Ok(names)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        self.tensor(name, |tensor| Ok(tensor.shape().to_vec()))
    }

    /// Tokens, which are stored as i64.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>> {
        self.tensor(name, |tensor| {
            ensure!(tensor.dtype() == Dtype::I64, "{name} is no i64 tensor");
            let (words, []) = tensor.data().as_chunks() else {
                bail!("{name} ends within a number")
            };
            let ids = words.iter().map(|word| i64::from_le_bytes(*word));
            Ok(ids.map(u32::try_from).collect::<Result<_, _>>()?)
        })
    }

    /// Numbers, which are stored as f32 or f16.
    pub fn numbers(&self, name: &str) -> Result<Vec<f32>> {
        self.tensor(name, |tensor| {
            let data = tensor.data();
            Ok(match tensor.dtype() {
                Dtype::F32 => {
                    let words = data.as_chunks().0.iter();
                    words.map(|word| f32::from_le_bytes(*word)).collect()
                }
                Dtype::F16 => {
                    let words = data.as_chunks().0.iter();
                    words
                        .map(|word| f16::from_le_bytes(*word).to_f32())
                        .collect()
                }
                other => bail!("{name} is stored as {other:?}"),
            })
        })
    }

    fn tensor<T>(&self, name: &str, read: impl Fn(TensorView<'_>) -> Result<T>) -> Result<T> {
        read(SafeTensors::deserialize(&self.bytes)?.tensor(name)?)
    }
}
