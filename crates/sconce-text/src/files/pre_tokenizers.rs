//! The ways in which byte-level tokenizers cut text into words, by the names that GGUF files have for them
//! (`tokenizer.ggml.pre`). The patterns are those of the models' own `tokenizer.json`; llama.cpp's tables
//! (`llama-vocab.cpp`) tell which name means which.

use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::guard::guarded;

/// A way to cut, and what goes with it.
pub(super) struct Pre {
    names: &'static [&'static str],
    steps: &'static [Step],
    /// Text is composed (NFC) before it is cut.
    composed: bool,
    /// A word that is a token is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// The text begins with the first token where the file does not say.
    pub(super) begins: bool,
}

/// One cut of the pieces that the steps before have left.
#[derive(Clone, Copy)]
enum Step {
    /// Matches and what is between them.
    Regex(&'static str),
    /// GPT-2's words.
    Words,
    /// Each digit by itself.
    Digits,
    /// Runs of digits.
    Numbers,
    /// Runs of punctuation.
    Punctuation,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|[.,!?…。，、।۔،])]+";

const PLAIN: Pre = Pre {
    names: &[],
    steps: &[Step::Words],
    composed: false,
    ignore_merges: false,
    begins: false,
};

const ALL: &[Pre] = &[
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"],
        steps: &[Step::Regex(LLAMA3)],
        ignore_merges: true,
        begins: true,
        ..PLAIN
    },
    Pre {
        names: &["dbrx", "smaug-bpe"],
        steps: &[Step::Regex(LLAMA3)],
        ..PLAIN
    },
    Pre {
        names: &["gpt-2", "phi-2"],
        ..PLAIN
    },
    // GPT-NeoX's tokenizer, which composes.
    Pre {
        names: &["mpt", "olmo"],
        composed: true,
        ..PLAIN
    },
    Pre {
        names: &["starcoder", "refact", "smollm", "codeshell"],
        steps: &[Step::Digits, Step::Words],
        ..PLAIN
    },
    Pre {
        names: &["command-r"],
        steps: &[Step::Digits, Step::Words],
        composed: true,
        ..PLAIN
    },
    Pre {
        names: &["qwen2"],
        steps: &[Step::Regex(QWEN2)],
        composed: true,
        ..PLAIN
    },
    Pre {
        names: &["deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"],
        steps: &[Step::Regex(QWEN2)],
        ..PLAIN
    },
    Pre {
        names: &["falcon"],
        steps: &[
            Step::Punctuation,
            Step::Words,
            Step::Numbers,
            Step::Regex("[0-9][0-9][0-9]"),
        ],
        ..PLAIN
    },
    Pre {
        names: &["bloom", "poro-chat", "gpt3-finnish"],
        steps: &[Step::Regex(BLOOM)],
        ..PLAIN
    },
    Pre {
        names: &["tekken"],
        steps: &[Step::Regex(TEKKEN)],
        ignore_merges: true,
        begins: true,
        ..PLAIN
    },
    Pre {
        names: &["gpt-4o"],
        steps: &[Step::Regex(GPT4O)],
        ..PLAIN
    },
];

/// The way of that name.
pub(super) fn find(name: &str) -> Option<&'static Pre> {
    ALL.iter().find(|pre| pre.names.contains(&name))
}

/// All names.
pub(super) fn supported() -> String {
    let names: Vec<&str> = ALL.iter().flat_map(|pre| pre.names).copied().collect();
    names.join(", ")
}

impl Pre {
    pub(super) fn normalizer(&self) -> Option<NormalizerWrapper> {
        self.composed.then(|| NFC.into())
    }

    /// The steps, and at last the bytes in GPT-2's spelling.
    pub(super) fn pre_tokenizer(&self) -> Result<PreTokenizerWrapper, String> {
        let words = self.steps.iter().any(|step| matches!(step, Step::Words));
        let mut steps = self
            .steps
            .iter()
            .map(|step| step.build())
            .collect::<Result<Vec<_>, _>>()?;
        if !words {
            steps.push(ByteLevel::new(false, true, false).into());
        }
        Ok(Sequence::new(steps).into())
    }
}

impl Step {
    fn build(self) -> Result<PreTokenizerWrapper, String> {
        Ok(match self {
            Self::Regex(pattern) => guarded(|| {
                let pattern = SplitPattern::Regex(pattern.to_owned());
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            })?
            .into(),
            Self::Words => ByteLevel::new(false, true, true).into(),
            Self::Digits => Digits::new(true).into(),
            Self::Numbers => Digits::new(false).into(),
            Self::Punctuation => Punctuation::new(SplitDelimiterBehavior::Contiguous).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_one_and_every_name_stands_once() {
        let mut names: Vec<_> = ALL.iter().flat_map(|pre| pre.names).collect();
        for pre in ALL {
            pre.pre_tokenizer().unwrap();
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
