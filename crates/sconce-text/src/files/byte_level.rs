//! `vocab.json` with `merges.txt`: BPE over bytes in GPT-2's spelling.

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{ModelWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::error::TextError;
use crate::files::assemble::{Frame, Parts};
use crate::files::class::Class;
use crate::files::folder::Folder;
use crate::files::roles::{Form, Role, Roles};
use crate::guard::guarded;

pub(super) const VOCAB: &str = "vocab.json";
pub(super) const MERGES: &str = "merges.txt";
pub(super) const FILES: &[&str] = &[VOCAB, MERGES];
const END_OF_TEXT: &str = "<|endoftext|>";

/// `Qwen2Converter`'s.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(super) const CLASSES: &[Class] = &[
    Class {
        names: &["GPT2Tokenizer"],
        model_types: &[
            "dbrx",
            "exaone4",
            "gpt2",
            "gpt_bigcode",
            "gpt_neo",
            "gptj",
            "granite",
            "granitemoe",
            "minimax",
            "opt",
            "starcoder2",
        ],
        files: FILES,
        roles: &gpt2_roles(Form::Normalized),
        clean_up: false,
        parts: gpt2,
    },
    Class {
        names: &["CodeGenTokenizer"],
        model_types: &["codegen", "phi"],
        files: FILES,
        roles: &gpt2_roles(Form::Exact),
        clean_up: false,
        parts: gpt2,
    },
    Class {
        names: &["Qwen2Tokenizer"],
        model_types: &["qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"],
        files: FILES,
        roles: &[
            Role::open("bos_token", Form::Exact),
            Role::new("eos_token", END_OF_TEXT, Form::Exact),
            Role::new("unk_token", END_OF_TEXT, Form::Exact),
            Role::new("pad_token", END_OF_TEXT, Form::Exact),
        ],
        clean_up: false,
        parts: qwen2,
    },
    Class {
        names: &["RobertaTokenizer", "LongformerTokenizer"],
        model_types: &[
            "roberta",
            "data2vec-text",
            "ibert",
            "mega",
            "mra",
            "roberta-prelayernorm",
        ],
        files: FILES,
        roles: &bart_roles(Form::Normalized, Form::ExactLeft),
        clean_up: false,
        parts: roberta,
    },
    Class {
        names: &["BartTokenizer", "LEDTokenizer"],
        model_types: &["bart"],
        files: FILES,
        roles: &bart_roles(Form::Normalized, Form::NormalizedLeft),
        clean_up: false,
        parts: roberta,
    },
    Class {
        names: &["MvpTokenizer"],
        model_types: &["mvp"],
        files: FILES,
        roles: &bart_roles(Form::Exact, Form::ExactLeft),
        clean_up: false,
        parts: roberta,
    },
    Class {
        names: &["BlenderbotTokenizer"],
        model_types: &["blenderbot"],
        files: FILES,
        roles: &bart_roles(Form::Normalized, Form::ExactLeft),
        clean_up: false,
        parts: blenderbot,
    },
    Class {
        names: &["DebertaTokenizer"],
        model_types: &["deberta"],
        files: FILES,
        roles: &[
            Role::new("bos_token", "[CLS]", Form::Exact),
            Role::new("eos_token", "[SEP]", Form::Exact),
            Role::new("unk_token", "[UNK]", Form::Exact),
            Role::new("sep_token", "[SEP]", Form::Exact),
            Role::new("pad_token", "[PAD]", Form::Exact),
            Role::new("cls_token", "[CLS]", Form::Exact),
            Role::new("mask_token", "[MASK]", Form::NormalizedLeft),
        ],
        clean_up: false,
        parts: deberta,
    },
];

const fn gpt2_roles(form: Form) -> [Role; 4] {
    [
        Role::new("bos_token", END_OF_TEXT, form),
        Role::new("eos_token", END_OF_TEXT, form),
        Role::new("unk_token", END_OF_TEXT, form),
        Role::open("pad_token", form),
    ]
}

const fn bart_roles(form: Form, mask: Form) -> [Role; 7] {
    [
        Role::new("bos_token", "<s>", form),
        Role::new("eos_token", "</s>", form),
        Role::new("unk_token", "<unk>", form),
        Role::new("sep_token", "</s>", form),
        Role::new("pad_token", "<pad>", form),
        Role::new("cls_token", "<s>", form),
        Role::new("mask_token", "<mask>", mask),
    ]
}

fn gpt2(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let frame = if folder.flag("add_bos_token", false)? {
        let bos = roles.need(folder, "bos_token", "a token, as add_bos_token is true")?;
        Some(Frame::new(&[bos, "$A"], &[bos, "$A", "$B:1"]))
    } else {
        None
    };
    parts(folder, roles, frame)
}

fn roberta(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let reason = "a token, as it goes around every text";
    let cls = roles.need(folder, "cls_token", reason)?;
    let sep = roles.need(folder, "sep_token", reason)?;
    let frame = Frame::new(&[cls, "$A", sep], &[cls, "$A", sep, sep, "$B", sep]);
    parts(folder, roles, Some(frame))
}

fn blenderbot(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let eos = roles.need(folder, "eos_token", "a token, as it ends every text")?;
    let frame = Frame::new(&["$A", eos], &["$A", "$B:1"]);
    parts(folder, roles, Some(frame))
}

fn deberta(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let frame = Frame::new(
        &["[CLS]", "$A", "[SEP]"],
        &["[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"],
    );
    parts(folder, roles, Some(frame))
}

fn parts(folder: &Folder, roles: &Roles, frame: Option<Frame>) -> Result<Parts, TextError> {
    // GPT-2's and its descendants' constructors drop the first line, whatever it says, and what
    // follows the last line's end.
    let text = folder.lines(MERGES)?;
    let mut lines: Vec<_> = text.split('\n').enumerate().skip(1).collect();
    lines.pop();
    let prefix = folder.flag("add_prefix_space", false)?;
    Ok(Parts {
        model: model(folder, merges(folder, lines)?)?,
        tokens: Vec::new(),
        normalizer: None,
        pre_tokenizer: Some(ByteLevel::new(prefix, true, true).into()),
        decoder: ByteLevel::default().into(),
        frame,
        additional: roles.additional.clone().unwrap_or_default(),
        source: None,
    })
}

fn qwen2(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let text = folder.lines(MERGES)?;
    let lines = text.split('\n').enumerate().filter(|(at, line)| {
        let version = *at == 0 && line.trim().starts_with("#version:");
        !version && !line.trim().is_empty()
    });
    let split = guarded(|| {
        let pattern = SplitPattern::Regex(QWEN2.into());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
    });
    let split = split.map_err(|cause| folder.damaged(VOCAB, cause))?;
    let pieces: Vec<PreTokenizerWrapper> =
        vec![split.into(), ByteLevel::new(false, true, false).into()];
    Ok(Parts {
        model: model(folder, merges(folder, lines.collect())?)?,
        tokens: Vec::new(),
        normalizer: Some(NFC.into()),
        pre_tokenizer: Some(Sequence::new(pieces).into()),
        decoder: ByteLevel::default().into(),
        frame: None,
        additional: roles.additional.clone().unwrap_or_default(),
        source: None,
    })
}

fn model(folder: &Folder, merges: Merges) -> Result<ModelWrapper, TextError> {
    let vocab = vocab(folder)?;
    let bpe = guarded(|| BPE::builder().vocab_and_merges(vocab, merges).build());
    Ok(bpe.map_err(|cause| folder.damaged(MERGES, cause))?.into())
}

/// Tokens and ids, which are 0, 1, 2, … without holes: added tokens get the ids after them.
pub(super) fn vocab(folder: &Folder) -> Result<Vocab, TextError> {
    let map = folder.map(VOCAB)?;
    let count = map.len();
    let mut taken = vec![None; count];
    for (token, id) in &map {
        let number = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let number = number.ok_or_else(|| folder.wrong(VOCAB, token, id, "the id of a token"))?;
        match taken.get_mut(number) {
            None => {
                let cause = format!(
                    "{token:?} has the id {number}, but there are only {count} tokens, so that ids are missing or a token stands there twice"
                );
                return Err(folder.damaged(VOCAB, cause));
            }
            Some(Some(other)) => {
                let cause = format!("{other:?} and {token:?} have the same id {number}");
                return Err(folder.damaged(VOCAB, cause));
            }
            Some(free) => *free = Some(token.as_str()),
        }
    }
    let tokens = taken.into_iter().flatten().map(str::to_owned);
    Ok(tokens.zip(0..).collect())
}

/// Pairs by rank, each once.
pub(super) fn merges(folder: &Folder, lines: Vec<(usize, &str)>) -> Result<Merges, TextError> {
    let mut seen = std::collections::HashSet::new();
    let mut merges = Merges::new();
    for (at, line) in lines {
        let mut parts = line.split_whitespace();
        let (Some(left), Some(right), None) = (parts.next(), parts.next(), parts.next()) else {
            let cause = format!("line {} is {line:?}, but must be two tokens", at + 1);
            return Err(folder.damaged(MERGES, cause));
        };
        if seen.insert((left, right)) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(merges)
}
