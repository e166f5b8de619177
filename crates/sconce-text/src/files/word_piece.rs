//! `vocab.txt`: BERT's WordPiece.

use tokenizers::decoders::wordpiece::WordPiece as Decoder;
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;

use crate::error::TextError;
use crate::files::assemble::{Frame, Parts};
use crate::files::class::Class;
use crate::files::folder::Folder;
use crate::files::roles::{Form, Role, Roles};
use crate::guard::guarded;

const VOCAB: &str = "vocab.txt";

pub(super) const CLASSES: &[Class] = &[
    Class {
        names: &[
            "BertTokenizer",
            "ConvBertTokenizer",
            "DistilBertTokenizer",
            "ElectraTokenizer",
            "LxmertTokenizer",
            "MobileBertTokenizer",
            "SqueezeBertTokenizer",
        ],
        model_types: &[
            "bert",
            "convbert",
            "distilbert",
            "electra",
            "ernie",
            "lxmert",
            "megatron-bert",
            "mobilebert",
            "nezha",
            "squeezebert",
        ],
        files: &[VOCAB],
        roles: &[
            Role::new("unk_token", "[UNK]", Form::Text),
            Role::new("sep_token", "[SEP]", Form::Text),
            Role::new("pad_token", "[PAD]", Form::Text),
            Role::new("cls_token", "[CLS]", Form::Text),
            Role::new("mask_token", "[MASK]", Form::Text),
        ],
        clean_up: true,
        parts: bert,
    },
    Class {
        names: &["MPNetTokenizer"],
        model_types: &["mpnet"],
        files: &[VOCAB],
        roles: &[
            Role::new("bos_token", "<s>", Form::Exact),
            Role::new("eos_token", "</s>", Form::Exact),
            Role::new("unk_token", "[UNK]", Form::Exact),
            Role::new("sep_token", "</s>", Form::Exact),
            Role::new("pad_token", "<pad>", Form::Exact),
            Role::new("cls_token", "<s>", Form::Exact),
            Role::new("mask_token", "<mask>", Form::ExactLeft),
        ],
        clean_up: true,
        parts: mpnet,
    },
];

fn bert(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    parts(folder, roles, |cls, sep| {
        let second = &format!("{sep}:1");
        Frame::new(&[cls, "$A", sep], &[cls, "$A", sep, "$B:1", second])
    })
}

fn mpnet(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    parts(folder, roles, |cls, sep| {
        let second = &format!("{sep}:1");
        Frame::new(&[cls, "$A", sep], &[cls, "$A", sep, sep, "$B:1", second])
    })
}

fn parts(
    folder: &Folder,
    roles: &Roles,
    frame: fn(&str, &str) -> Frame,
) -> Result<Parts, TextError> {
    let reason = "a token, as it goes around every text";
    let cls = roles.need(folder, "cls_token", reason)?;
    let sep = roles.need(folder, "sep_token", reason)?;
    let unknown = roles.need(
        folder,
        "unk_token",
        "a token, for words that cannot be spelled",
    )?;
    let normalizer = BertNormalizer::new(
        true,
        folder.flag("tokenize_chinese_chars", true)?,
        folder.choice("strip_accents")?,
        folder.flag("do_lower_case", true)?,
    );
    Ok(Parts {
        model: model(folder, unknown)?.into(),
        tokens: Vec::new(),
        normalizer: Some(normalizer.into()),
        pre_tokenizer: Some(BertPreTokenizer.into()),
        decoder: Decoder::new("##".into(), true).into(),
        frame: Some(frame(cls, sep)),
        additional: roles.additional.clone().unwrap_or_default(),
        source: None,
    })
}

/// One token a line; the id is the line's number, from 0.
fn model(folder: &Folder, unknown: &str) -> Result<WordPiece, TextError> {
    let text = folder.lines(VOCAB)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut seen = std::collections::HashMap::new();
    for (at, token) in text.split('\n').enumerate() {
        if let Some(before) = seen.insert(token, at) {
            let cause = format!(
                "{token:?} stands on line {} and on line {}",
                before + 1,
                at + 1
            );
            return Err(folder.damaged(VOCAB, cause));
        }
    }
    if !seen.contains_key(unknown) {
        let cause = format!("the unknown token {unknown:?} is not in it");
        return Err(folder.damaged(VOCAB, cause));
    }
    let lines = text.split('\n').map(str::to_owned);
    let vocab: Vocab = lines.zip(0..).collect();
    let builder = WordPiece::builder().vocab(vocab);
    let built = guarded(|| builder.unk_token(unknown.to_owned()).build());
    built.map_err(|cause| folder.damaged(VOCAB, cause))
}
