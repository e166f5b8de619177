//! Vocabularies that number the pieces of a SentencePiece model by themselves: Marian's and M2M100's. And ByT5's, which
//! has no files, as its tokens are bytes.

use serde_json::Value;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::normalizers::{Replace, Sequence as Normalizers, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, NormalizerWrapper, Tokenizer};

use crate::bytes::character_of;
use crate::error::TextError;
use crate::files::assemble::{Frame, Parts};
use crate::files::class::Class;
use crate::files::folder::{Folder, Source};
use crate::files::roles::{Form, Named, Role, Roles};
use crate::files::sentence_piece::SentencePiece;
use crate::guard::guarded;
use crate::stages::without_invalid;

const VOCAB: &str = "vocab.json";
const MARIAN: &str = "source.spm";
const FAIRSEQ: &str = "sentencepiece.bpe.model";

pub(super) const CLASSES: &[Class] = &[
    Class {
        names: &["MarianTokenizer"],
        model_types: &["marian"],
        files: &[MARIAN, VOCAB],
        roles: &[
            Role::new("eos_token", "</s>", Form::Exact),
            Role::new("unk_token", "<unk>", Form::Exact),
            Role::new("pad_token", "<pad>", Form::Exact),
        ],
        clean_up: false,
        parts: marian,
    },
    Class {
        names: &["M2M100Tokenizer"],
        model_types: &["m2m_100"],
        files: &[FAIRSEQ, VOCAB],
        roles: &[
            Role::new("bos_token", "<s>", Form::Exact),
            Role::new("eos_token", "</s>", Form::Exact),
            Role::new("unk_token", "<unk>", Form::Exact),
            Role::new("sep_token", "</s>", Form::Exact),
            Role::new("pad_token", "<pad>", Form::Exact),
        ],
        clean_up: false,
        parts: m2m,
    },
    Class {
        names: &["ByT5Tokenizer"],
        model_types: &[],
        files: &[],
        roles: &[
            Role::new("eos_token", "</s>", Form::ExactBoth),
            Role::new("unk_token", "<unk>", Form::ExactBoth),
            Role::new("pad_token", "<pad>", Form::ExactBoth),
        ],
        clean_up: false,
        parts: byt5,
    },
];

/// The languages of M2M100, in the order of their ids.
const LANGUAGES: &str = "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he \
                         hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl \
                         no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh \
                         yi yo zh zu";

fn marian(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    if folder.flag("separate_vocabs", false)? {
        let value = Value::Bool(true);
        let (file, value) = folder
            .value("separate_vocabs")
            .unwrap_or(("tokenizer_config.json", &value));
        let wanted = "false: both sides have one vocabulary";
        return Err(folder.wrong(file, "separate_vocabs", value, wanted));
    }
    let mut parts = mapped(folder, roles, MARIAN)?;
    let eos = roles.need(folder, "eos_token", "a token, as it ends every text")?;
    parts.frame = Some(Frame::new(&["$A", eos], &["$A", "$B", eos]));
    // A text may begin with the language that it is to be translated to.
    let codes = folder.map(VOCAB)?;
    let codes = codes
        .keys()
        .filter(|token| token.starts_with(">>") && token.ends_with("<<"))
        .map(|token| AddedToken::from(token.clone(), false).normalized(false));
    if let Some(source) = &mut parts.source {
        guarded(|| source.add_tokens(codes)).map_err(|cause| folder.damaged(VOCAB, cause))?;
    }
    Ok(parts)
}

fn m2m(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let mut parts = mapped(folder, roles, FAIRSEQ)?;
    let language = folder.text(Source::Tokenizer, "src_lang")?.unwrap_or("en");
    let language = format!("__{language}__");
    let eos = roles.need(folder, "eos_token", "a token, as it ends every text")?;
    parts.frame = Some(Frame::new(
        &[&language, "$A", eos],
        &[&language, "$A", "$B", eos],
    ));
    let languages = LANGUAGES.split_whitespace();
    parts.additional = languages
        .map(|language| Named::text(format!("__{language}__")))
        .collect();
    Ok(parts)
}

/// A vocabulary of words, and the model that cuts texts to them.
fn mapped(folder: &Folder, roles: &Roles, file: &'static str) -> Result<Parts, TextError> {
    let reason = "a token, as it stands for what the vocabulary lacks";
    let unknown = roles.need(folder, "unk_token", reason)?;
    let mut words = Vec::new();
    for (token, id) in folder.map(VOCAB)? {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let number = number.ok_or_else(|| folder.wrong(VOCAB, &token, &id, "the id of a token"))?;
        words.push((token, number));
    }
    let model = guarded(|| {
        let builder = WordLevel::builder().vocab(words.into_iter().collect());
        builder.unk_token(unknown.to_owned()).build()
    });
    let metaspace = || Metaspace::new('▁', PrependScheme::Always, true);
    Ok(Parts {
        model: model.map_err(|cause| folder.damaged(VOCAB, cause))?.into(),
        tokens: Vec::new(),
        normalizer: None,
        pre_tokenizer: None,
        decoder: metaspace().into(),
        frame: None,
        additional: roles.additional.clone().unwrap_or_default(),
        source: Some(cutter(folder, file, metaspace())?),
    })
}

/// A SentencePiece model with its own normaliser: spaces at the ends go, repeated ones become one.
///
/// A text that spells the model's own marks is cut otherwise than by SentencePiece: `▁` counts as a character, and the
/// name of a control piece (`<s>`) as that piece.
fn cutter(
    folder: &Folder,
    name: &'static str,
    metaspace: Metaspace,
) -> Result<Tokenizer, TextError> {
    let file = SentencePiece::read(folder, name, 3)?;
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    steps.extend(file.charsmap()?.map(Into::into));
    // Of all that is white, spaces alone.
    for (pattern, by) in [("^ +| +$", ""), (" {2,}", " ")] {
        let spaces = guarded(|| Replace::new(ReplacePattern::Regex(pattern.into()), by));
        steps.push(spaces.map_err(|cause| folder.damaged(name, cause))?.into());
    }
    let mut cutter = Tokenizer::new(file.model(file.scores(0), file.unknown(), false)?);
    cutter.with_pre_tokenizer(Some(metaspace));
    guarded(|| {
        cutter
            .with_normalizer(Some(Normalizers::new(steps)))
            .map(|_| ())
    })
    .map_err(|cause| folder.damaged(name, cause))?;
    Ok(cutter)
}

/// Three tokens, then the bytes, then the sentinels.
fn byt5(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let extra = folder.count("extra_ids", 125)?;
    let first = ["<pad>", "</s>", "<unk>"].map(str::to_owned);
    let bytes = (0..=u8::MAX).map(|byte| character_of(byte).to_string());
    let vocab: Vocab = first.into_iter().chain(bytes).zip(0..).collect();
    let model = guarded(|| {
        let builder = BPE::builder().vocab_and_merges(vocab, Vec::new());
        builder.build()
    });
    let model = model.map_err(|cause| folder.damaged("tokenizer_config.json", cause))?;
    let eos = roles.need(folder, "eos_token", "a token, as it ends every text")?;
    let listed = roles.additional.clone().unwrap_or_default();
    let sentinels = (0..extra).map(|at| Named::text(format!("<extra_id_{at}>")));
    Ok(Parts {
        model: model.into(),
        tokens: Vec::new(),
        normalizer: None,
        pre_tokenizer: Some(ByteLevel::new(false, true, false).into()),
        // Its Python class decodes with `errors="ignore"`.
        decoder: Sequence::new(vec![ByteLevel::default().into(), without_invalid().into()]).into(),
        frame: Some(Frame::new(&["$A", eos], &["$A", eos, "$B", eos])),
        additional: if listed.is_empty() {
            sentinels.collect()
        } else {
            listed
        },
        source: None,
    })
}
