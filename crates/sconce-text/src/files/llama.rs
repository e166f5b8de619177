//! SentencePiece models with byte fallback: Llama's and Gemma's.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::split::Split;
use tokenizers::{DecoderWrapper, NormalizerWrapper, SplitDelimiterBehavior};

use crate::error::TextError;
use crate::files::assemble::{Frame, Parts};
use crate::files::class::Class;
use crate::files::folder::Folder;
use crate::files::roles::{Form, Named, Role, Roles};
use crate::files::sentence_piece::SentencePiece;
use crate::guard::guarded;

const MODEL: &str = "tokenizer.model";

pub(super) const CLASSES: &[Class] = &[
    Class {
        names: &["LlamaTokenizer"],
        model_types: &[
            "arcee",
            "deepseek_v2",
            "deepseek_v3",
            "diffllama",
            "jamba",
            "jetmoe",
            "llama",
            "ministral",
            "mistral",
            "mixtral",
            "persimmon",
            "phi3",
            "phimoe",
            "zamba",
            "zamba2",
        ],
        files: &[MODEL],
        roles: &[
            Role::new("bos_token", "<s>", Form::Exact),
            Role::new("eos_token", "</s>", Form::Exact),
            Role::new("unk_token", "<unk>", Form::Exact),
            Role::open("pad_token", Form::Exact),
        ],
        clean_up: false,
        parts: llama,
    },
    Class {
        names: &["CodeLlamaTokenizer"],
        model_types: &["code_llama"],
        files: &[MODEL],
        roles: &[
            Role::new("bos_token", "<s>", Form::Exact),
            Role::new("eos_token", "</s>", Form::Exact),
            Role::new("unk_token", "<unk>", Form::Exact),
        ],
        clean_up: false,
        parts: code_llama,
    },
    Class {
        names: &["GemmaTokenizer"],
        model_types: &[
            "gemma",
            "gemma2",
            "gemma3",
            "gemma3_text",
            "recurrent_gemma",
        ],
        files: &[MODEL],
        roles: &[
            Role::new("bos_token", "<bos>", Form::Exact),
            Role::new("eos_token", "<eos>", Form::Exact),
            Role::new("unk_token", "<unk>", Form::Exact),
            Role::new("pad_token", "<pad>", Form::Exact),
        ],
        clean_up: false,
        parts: gemma,
    },
];

/// `LlamaConverter`. `legacy` puts the space in front of every text between special tokens, and
/// is the default.
fn llama(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let legacy = folder.choice("legacy")?.unwrap_or(true);
    let prefix = folder.flag("add_prefix_space", true)?;
    parts(folder, roles, legacy, prefix)
}

/// As Llama's, always legacy, with four more special tokens.
fn code_llama(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    const INFILLING: [(&str, &str); 4] = [
        ("prefix_token", "▁<PRE>"),
        ("middle_token", "▁<MID>"),
        ("suffix_token", "▁<SUF>"),
        ("eot_token", "▁<EOT>"),
    ];
    let mut parts = parts(folder, roles, true, true)?;
    for (key, default) in INFILLING {
        match folder.value(key) {
            None => parts.additional.push(Named::text(default)),
            Some((_, serde_json::Value::Null)) => {}
            Some((file, value)) => parts.additional.push(Named {
                token: folder.token(file, key, value)?.special(true),
                yields: value.is_string(),
            }),
        }
    }
    Ok(parts)
}

fn parts(folder: &Folder, roles: &Roles, legacy: bool, prefix: bool) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, MODEL, 3)?;
    let first = (0..3).map(|id| {
        let mut added = folder.added.iter();
        let renamed = added.find(|(added, _)| usize::try_from(*added) == Ok(id));
        let token = renamed.map_or(file.piece(id), |(_, token)| &token.content);
        (token.to_owned(), 0.0)
    });
    let scores = first.chain(file.scores(3)).collect();
    let steps = steps(prefix).map_err(|cause| folder.damaged(MODEL, cause))?;
    let (normalizer, pre_tokenizer) = if legacy {
        (Some(steps.normalizer), None)
    } else {
        let scheme = if prefix {
            PrependScheme::First
        } else {
            PrependScheme::Never
        };
        (None, Some(Metaspace::new('▁', scheme, false).into()))
    };
    Ok(Parts {
        model: file.model(scores, 0, true)?,
        tokens: file.tokens(&[]),
        normalizer,
        pre_tokenizer,
        decoder: steps.decoder,
        frame: frame(folder, roles)?,
        additional: roles.additional.clone().unwrap_or_default(),
        source: None,
    })
}

/// `GemmaConverter`.
fn gemma(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, MODEL, 3)?;
    let mut scores = Vec::new();
    for role in ["pad_token", "eos_token", "bos_token"] {
        let content = roles.need(folder, role, "a token, as it is one of the first three")?;
        scores.push((content.to_owned(), 0.0));
    }
    scores.extend(file.scores(3));
    if !scores.iter().any(|(token, _)| token == "\t")
        && let Some(tab) = scores.iter_mut().find(|(token, _)| token == "<0x09>")
    {
        *tab = ("\t".into(), 0.0);
    }
    let split = guarded(|| Split::new(" ", SplitDelimiterBehavior::MergedWithPrevious, false));
    let split = split.map_err(|cause| folder.damaged(MODEL, cause))?;
    let steps = steps(false).map_err(|cause| folder.damaged(MODEL, cause))?;
    Ok(Parts {
        model: file.model(scores, 3, true)?,
        tokens: file.tokens(&["<start_of_turn>", "<end_of_turn>"]),
        normalizer: Some(steps.normalizer),
        pre_tokenizer: Some(split.into()),
        decoder: steps.decoder,
        frame: frame(folder, roles)?,
        additional: roles.additional.clone().unwrap_or_default(),
        source: None,
    })
}

/// What comes before and after the model, for vocabularies that are read without a folder.
pub(super) struct Steps {
    pub(super) normalizer: NormalizerWrapper,
    pub(super) decoder: DecoderWrapper,
}

/// As Llama's legacy tokenizers have them; `prefix` puts the space in front of every text between
/// special tokens.
pub(super) fn steps(prefix: bool) -> Result<Steps, String> {
    let prepend: Option<NormalizerWrapper> = prefix.then(|| Prepend::new("▁".into()).into());
    let spaces = guarded(|| Replace::new(" ", "▁"))?.into();
    let replace = guarded(|| Replace::new("▁", " "))?;
    let mut decoders: Vec<DecoderWrapper> = vec![
        replace.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    Ok(Steps {
        normalizer: Normalizers::new(prepend.into_iter().chain([spaces]).collect()).into(),
        decoder: Decoders::new(decoders).into(),
    })
}

fn frame(folder: &Folder, roles: &Roles) -> Result<Option<Frame>, TextError> {
    let mut before = Vec::new();
    let mut after = Vec::new();
    if folder.flag("add_bos_token", true)? {
        before.push(roles.need(folder, "bos_token", "a token, as add_bos_token is true")?);
    }
    if folder.flag("add_eos_token", false)? {
        after.push(roles.need(folder, "eos_token", "a token, as add_eos_token is true")?);
    }
    let typed = |tokens: &[&str]| -> Vec<String> {
        tokens.iter().map(|token| format!("{token}:1")).collect()
    };
    let (typed_before, typed_after) = (typed(&before), typed(&after));
    let single = [before.as_slice(), &["$A"], &after].concat();
    let mut pair = single.clone();
    pair.extend(typed_before.iter().map(String::as_str));
    pair.push("$B:1");
    pair.extend(typed_after.iter().map(String::as_str));
    Ok(Some(Frame::new(&single, &pair)))
}
