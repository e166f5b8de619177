//! The tiny models under `models/tiny` and what the reference implementation computed with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::reference::Reference;

/// One folder of `models/tiny`: a checkpoint that can be served, and its goldens.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// One run for each prompt; the last prompt is longer than two blocks of the cache.
    pub runs: Vec<Run>,
}

/// A prompt, its logits and its greedy continuation, as transformers computed them in f32.
#[derive(Clone, Debug)]
pub struct Run {
    /// The prompt's text.
    pub prompt: String,
    /// The prompt's tokens, with the special tokens that the tokenizer adds.
    pub ids: Vec<u32>,
    /// Logits after each token of the prompt, `[ids.len(), vocab]`.
    pub logits: Vec<f32>,
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// The most likely tokens that follow.
    pub greedy: Vec<u32>,
    /// Their text.
    pub text: String,
}

/// The folder `models/tiny` of the repository.
pub fn tiny_models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tiny")
}

impl Golden {
    /// All folders of `models/tiny`, sorted by name.
    pub fn all() -> Result<Vec<Self>> {
        let root = tiny_models();
        let mut dirs: Vec<PathBuf> = fs::read_dir(&root)
            .with_context(|| format!("listing {}", root.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        dirs.retain(|path| path.join("config.json").is_file());
        dirs.sort();
        dirs.iter().map(|dir| Self::open(dir)).collect()
    }

    /// One of them by name.
    pub fn tiny(name: &str) -> Result<Self> {
        Self::open(&tiny_models().join(name))
    }

    /// Reads `golden.json` and `golden.safetensors` in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        let texts: serde_json::Value = serde_json::from_slice(&read("golden.json")?)?;
        let numbers = Reference::open(&dir.join("golden.safetensors"))?;
        let texts = texts["runs"]
            .as_array()
            .context("golden.json has no list `runs`")?;
        let runs: Result<Vec<Run>> = (0..texts.len())
            .map(|i| Run::read(&numbers, &texts[i], i))
            .collect();
        let name = dir
            .file_name()
            .context("a folder with a name")?
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            name,
            dir: dir.to_owned(),
            runs: runs.with_context(|| format!("reading {}", dir.display()))?,
        })
    }
}

impl Run {
    fn read(numbers: &Reference, texts: &serde_json::Value, index: usize) -> Result<Self> {
        let text = |key: &str| {
            let text = texts[key]
                .as_str()
                .with_context(|| format!("golden.json: `{key}` of run {index}"));
            text.map(str::to_owned)
        };
        let ids = numbers.ids(&format!("prompt.{index}"))?;
        let name = format!("logits.{index}");
        let [rows, vocab] = numbers.shape(&name)?[..] else {
            bail!("{name} is no matrix")
        };
        ensure!(rows == ids.len(), "{name} has not one row for each token");
        Ok(Self {
            prompt: text("prompt")?,
            ids,
            vocab,
            logits: numbers.numbers(&name)?,
            greedy: numbers.ids(&format!("greedy.{index}"))?,
            text: text("text")?,
        })
    }

    /// The golden logits after the last token of the prompt.
    pub fn last_logits(&self) -> &[f32] {
        &self.logits[self.logits.len() - self.vocab..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_of_tiny_models_has_goldens_that_agree_with_themselves() {
        let all = Golden::all().expect("readable");
        assert!(all.len() >= 6, "only {} folders", all.len());
        for golden in all {
            let longest = golden.runs.iter().map(|run| run.ids.len()).max();
            assert!(
                longest > Some(64),
                "{}: no prompt is longer than two blocks",
                golden.name
            );
            for run in &golden.runs {
                assert_eq!(run.logits.len(), run.ids.len() * run.vocab);
                let last = run.last_logits();
                let best = (0..run.vocab).max_by(|&a, &b| last[a].total_cmp(&last[b]));
                assert_eq!(
                    best,
                    Some(run.greedy[0] as usize),
                    "{}: {:?}",
                    golden.name,
                    run.prompt
                );
                assert!(run.greedy.len() >= 16);
            }
        }
    }
}
