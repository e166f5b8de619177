//! SentencePiece models without byte fallback: T5's, ALBERT's, XLNet's, XLM-RoBERTa's and others,
//! nearly all Unigram.

use tokenizers::normalizers::{
    Lowercase, NFKD, Replace, Sequence as Normalizers, Strip, StripAccents, replace::ReplacePattern,
};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use crate::error::TextError;
use crate::files::assemble::{Frame, Parts};
use crate::files::class::Class;
use crate::files::folder::{Folder, Source};
use crate::files::nllb::nllb;
use crate::files::roles::{Form, Named, Role, Roles};
use crate::files::sentence_piece::{Scores, SentencePiece};
use crate::guard::guarded;

const SPIECE: &str = "spiece.model";
pub(super) const FAIRSEQ: &str = "sentencepiece.bpe.model";
const SPM: &str = "spm.model";

pub(super) const CLASSES: &[Class] = &[
    Class {
        names: &["T5Tokenizer", "MT5Tokenizer"],
        model_types: &["t5", "longt5", "mt5", "switch_transformers", "umt5"],
        files: &[SPIECE],
        roles: &[
            Role::new("eos_token", "</s>", Form::Exact),
            Role::new("unk_token", "<unk>", Form::Exact),
            Role::new("pad_token", "<pad>", Form::Exact),
        ],
        clean_up: false,
        parts: t5,
    },
    Class {
        names: &["AlbertTokenizer"],
        model_types: &["albert", "nystromformer", "yoso"],
        files: &[SPIECE],
        roles: &[
            Role::new("bos_token", "[CLS]", Form::Text),
            Role::new("eos_token", "[SEP]", Form::Text),
            Role::new("unk_token", "<unk>", Form::Text),
            Role::new("sep_token", "[SEP]", Form::Text),
            Role::new("pad_token", "<pad>", Form::Text),
            Role::new("cls_token", "[CLS]", Form::Text),
            Role::new("mask_token", "[MASK]", Form::ExactLeft),
        ],
        clean_up: false,
        parts: albert,
    },
    Class {
        names: &["XLNetTokenizer"],
        model_types: &["xlnet"],
        files: &[SPIECE],
        roles: &[
            Role::new("bos_token", "<s>", Form::Text),
            Role::new("eos_token", "</s>", Form::Text),
            Role::new("unk_token", "<unk>", Form::Text),
            Role::new("sep_token", "<sep>", Form::Text),
            Role::new("pad_token", "<pad>", Form::Text),
            Role::new("cls_token", "<cls>", Form::Text),
            Role::new("mask_token", "<mask>", Form::ExactLeft),
        ],
        clean_up: false,
        parts: xlnet,
    },
    Class {
        names: &["BigBirdTokenizer"],
        model_types: &["big_bird"],
        files: &[SPIECE],
        roles: &[
            Role::new("bos_token", "<s>", Form::Normalized),
            Role::new("eos_token", "</s>", Form::Normalized),
            Role::new("unk_token", "<unk>", Form::Normalized),
            Role::new("sep_token", "[SEP]", Form::Normalized),
            Role::new("pad_token", "<pad>", Form::Normalized),
            Role::new("cls_token", "[CLS]", Form::Normalized),
            Role::new("mask_token", "[MASK]", Form::NormalizedLeft),
        ],
        clean_up: false,
        parts: big_bird,
    },
    Class {
        names: &["DebertaV2Tokenizer"],
        model_types: &["deberta-v2"],
        files: &[SPM],
        roles: &[
            Role::new("bos_token", "[CLS]", Form::Text),
            Role::new("eos_token", "[SEP]", Form::Text),
            Role::new("unk_token", "[UNK]", Form::Normalized),
            Role::new("sep_token", "[SEP]", Form::Text),
            Role::new("pad_token", "[PAD]", Form::Text),
            Role::new("cls_token", "[CLS]", Form::Text),
            Role::new("mask_token", "[MASK]", Form::Text),
        ],
        clean_up: false,
        parts: deberta_v2,
    },
    Class {
        names: &["XLMRobertaTokenizer"],
        model_types: &["xlm-roberta", "xlm-roberta-xl", "xmod"],
        files: &[FAIRSEQ],
        roles: FAIRSEQ_ROLES,
        clean_up: false,
        parts: xlm_roberta,
    },
    Class {
        names: &["CamembertTokenizer"],
        model_types: &["camembert"],
        files: &[FAIRSEQ],
        roles: FAIRSEQ_ROLES,
        clean_up: false,
        parts: camembert,
    },
    Class {
        names: &["BarthezTokenizer"],
        model_types: &[],
        files: &[FAIRSEQ],
        roles: FAIRSEQ_ROLES,
        clean_up: false,
        parts: barthez,
    },
    Class {
        names: &["PegasusTokenizer"],
        model_types: &["pegasus", "bigbird_pegasus", "pegasus_x"],
        files: &[SPIECE],
        roles: &[
            Role::new("eos_token", "</s>", Form::Text),
            Role::new("unk_token", "<unk>", Form::Text),
            Role::new("pad_token", "<pad>", Form::Text),
            Role::new("mask_token", "<mask_2>", Form::Text),
        ],
        clean_up: false,
        parts: pegasus,
    },
    Class {
        names: &["MBartTokenizer"],
        model_types: &["mbart"],
        files: &[FAIRSEQ],
        roles: FAIRSEQ_ROLES,
        clean_up: false,
        parts: |folder, roles| mbart(folder, roles, &MBART_LANGUAGES),
    },
    Class {
        names: &["MBart50Tokenizer"],
        model_types: &[],
        files: &[FAIRSEQ],
        roles: FAIRSEQ_ROLES,
        clean_up: false,
        parts: mbart50,
    },
    Class {
        names: &["NllbTokenizer"],
        model_types: &[],
        files: &[FAIRSEQ],
        roles: &[
            Role::new("bos_token", "<s>", Form::Exact),
            Role::new("eos_token", "</s>", Form::Exact),
            Role::new("unk_token", "<unk>", Form::Exact),
            Role::new("sep_token", "</s>", Form::Exact),
            Role::new("pad_token", "<pad>", Form::Exact),
            Role::new("cls_token", "<s>", Form::Exact),
            Role::new("mask_token", "<mask>", Form::NormalizedLeft),
        ],
        clean_up: false,
        parts: nllb,
    },
    Class {
        names: &["XGLMTokenizer"],
        model_types: &["xglm"],
        files: &[FAIRSEQ],
        roles: &[
            Role::new("bos_token", "<s>", Form::Text),
            Role::new("eos_token", "</s>", Form::Text),
            Role::new("unk_token", "<unk>", Form::Text),
            Role::new("sep_token", "</s>", Form::Text),
            Role::new("pad_token", "<pad>", Form::Text),
            Role::new("cls_token", "<s>", Form::Text),
        ],
        clean_up: false,
        parts: xglm,
    },
];

const FAIRSEQ_ROLES: &[Role] = &[
    Role::new("bos_token", "<s>", Form::Text),
    Role::new("eos_token", "</s>", Form::Text),
    Role::new("unk_token", "<unk>", Form::Text),
    Role::new("sep_token", "</s>", Form::Text),
    Role::new("pad_token", "<pad>", Form::Text),
    Role::new("cls_token", "<s>", Form::Text),
    Role::new("mask_token", "<mask>", Form::ExactLeft),
];

/// The tokens with which fairseq's vocabularies begin; `<unk>` is the fourth.
const FAIRSEQ_FIRST: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];
pub(super) const FAIRSEQ_UNKNOWN: usize = 3;

fn t5(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, SPIECE, 0)?;
    let extra = folder.count("extra_ids", 100)?;
    let sentinel = |at| format!("<extra_id_{at}>");
    let mut scores = file.scores(0);
    scores.extend((0..extra).rev().map(|at| (sentinel(at), 0.0)));
    let mut parts = plain(folder, roles, &file, scores, file.unknown())?;
    let prefix = folder.flag("add_prefix_space", true)?;
    let legacy = folder.choice("legacy")?.unwrap_or(true);
    let metaspace = metaspace(match (prefix, legacy) {
        (false, _) => PrependScheme::Never,
        (true, true) => PrependScheme::Always,
        (true, false) => PrependScheme::First,
    });
    parts.pre_tokenizer = Some(metaspace.clone().into());
    parts.decoder = metaspace.into();
    parts.frame = Some(Frame::new(&["$A", "</s>"], &["$A", "</s>", "$B", "</s>"]));
    let sentinels = |named: &Named| named.token.content.contains("<extra_id_");
    let listed = parts.additional.iter().filter(|named| sentinels(named));
    match listed.count() as u64 {
        0 => {
            let sentinels = (0..extra).map(|at| Named::text(sentinel(at)));
            parts.additional.extend(sentinels);
        }
        count if extra > 0 && count != extra => {
            let value = serde_json::json!(extra);
            let wanted = "the number of <extra_id_…> among additional_special_tokens";
            let (file, value) = folder
                .value("extra_ids")
                .unwrap_or(("tokenizer_config.json", &value));
            return Err(folder.wrong(file, "extra_ids", value, wanted));
        }
        _ => {}
    }
    Ok(parts)
}

fn albert(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let mut parts = accented(folder, roles, true)?;
    parts.frame = Some(cls_sep());
    Ok(parts)
}

fn xlnet(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let mut parts = accented(folder, roles, false)?;
    parts.frame = Some(Frame::new(
        &["$A:0", "<sep>:0", "<cls>:2"],
        &["$A:0", "<sep>:0", "$B:1", "<sep>:1", "<cls>:2"],
    ));
    if roles.additional.is_none() {
        parts.additional = ["<eop>", "<eod>"].map(Named::text).into();
    }
    Ok(parts)
}

fn big_bird(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, SPIECE, 0)?;
    let mut parts = plain(folder, roles, &file, file.scores(0), file.unknown())?;
    parts.frame = Some(cls_sep());
    Ok(parts)
}

fn deberta_v2(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, SPM, 0)?;
    let mut parts = plain(folder, roles, &file, file.scores(0), file.unknown())?;
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if folder.flag("do_lower_case", false)? {
        steps.push(Lowercase.into());
    }
    steps.push(Strip::new(true, true).into());
    steps.extend(file.charsmap()?.map(Into::into));
    steps.push(one_space(folder, SPM, " ")?);
    parts.normalizer = Some(Normalizers::new(steps).into());
    let mut cuts = Vec::new();
    if folder.flag("split_by_punct", false)? {
        cuts.push(Punctuation::new(SplitDelimiterBehavior::Isolated).into());
    }
    cuts.push(metaspace(PrependScheme::Always).into());
    parts.pre_tokenizer = Some(Sequence::new(cuts).into());
    parts.frame = Some(cls_sep());
    Ok(parts)
}

fn xlm_roberta(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, FAIRSEQ, 3)?;
    let scores = fairseq(&file, 3, &["<mask>"]);
    let mut parts = plain(folder, roles, &file, scores, FAIRSEQ_UNKNOWN)?;
    parts.frame = Some(fairseq_frame());
    Ok(parts)
}

fn camembert(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, FAIRSEQ, 3)?;
    let first = [
        ("<s>NOTUSED", 0.0),
        ("<pad>", 0.0),
        ("</s>NOTUSED", 0.0),
        ("<unk>", 0.0),
        ("<unk>NOTUSED", -100.0),
    ];
    let first = first.map(|(token, score)| (token.to_owned(), score));
    let mut scores: Scores = first.into_iter().chain(file.scores(1)).collect();
    scores.push(("<mask>".into(), 0.0));
    let mut parts = plain(folder, roles, &file, scores, FAIRSEQ_UNKNOWN)?;
    parts.frame = Some(fairseq_frame());
    if roles.additional.is_none() {
        parts.additional = ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]
            .map(Named::text)
            .into();
    }
    Ok(parts)
}

fn barthez(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, FAIRSEQ, 3)?;
    let mut parts = plain(folder, roles, &file, file.scores(0), FAIRSEQ_UNKNOWN)?;
    parts.frame = Some(fairseq_frame());
    Ok(parts)
}

/// Two tokens, a sentence's mask, `offset` names for unknown words, then the pieces from the third on.
fn pegasus(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, SPIECE, 2)?;
    let offset = folder.count("offset", 103)? as usize;
    let sentence = match folder.value("mask_token_sent") {
        None => Some("<mask_1>".to_owned()),
        Some((_, value)) => value.as_str().map(str::to_owned),
    };
    let reason = "a token, as vocabularies of this class have it";
    let mut scores: Scores = Vec::new();
    for role in ["pad_token", "eos_token"] {
        scores.push((roles.need(folder, role, reason)?.to_owned(), 0.0));
    }
    if let Some(sentence) = &sentence {
        scores.push((sentence.clone(), 0.0));
    }
    let word = roles
        .get("mask_token")
        .filter(|_| sentence.is_some() && offset > 3);
    scores.extend(word.map(|word| (word.to_owned(), 0.0)));
    let names: Vec<String> = (2..offset).map(|at| format!("<unk_{at}>")).collect();
    scores.extend(names.iter().map(|name| (name.clone(), -100.0)));
    scores.extend(file.scores(2));
    let mut parts = plain(folder, roles, &file, scores, file.unknown() + offset)?;
    let cuts: Vec<PreTokenizerWrapper> = vec![
        WhitespaceSplit.into(),
        metaspace(PrependScheme::Always).into(),
    ];
    parts.pre_tokenizer = Some(Sequence::new(cuts).into());
    let eos = roles.need(folder, "eos_token", reason)?;
    parts.frame = Some(Frame::new(&["$A", eos], &["$A", "$B", eos]));
    if roles.additional.is_none() {
        let all = sentence.into_iter().chain(names);
        parts.additional = all.map(Named::text).collect();
    }
    Ok(parts)
}

/// The languages of mBART, in the order of their ids.
const MBART_LANGUAGES: [&str; 25] = [
    "ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN", "hi_IN",
    "it_IT", "ja_XX", "kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP", "nl_XX", "ro_RO",
    "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN",
];

/// Those that mBART-50 has behind them.
const MORE_LANGUAGES: [&str; 27] = [
    "af_ZA", "az_AZ", "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE", "km_KH", "mk_MK",
    "ml_IN", "mn_MN", "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE", "ta_IN", "te_IN",
    "th_TH", "tl_XX", "uk_UA", "ur_PK", "xh_ZA", "gl_ES", "sl_SI",
];

fn mbart50(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let languages = [&MBART_LANGUAGES[..], &MORE_LANGUAGES[..]].concat();
    let mut parts = mbart(folder, roles, &languages)?;
    let language = source_language(folder)?;
    parts.frame = Some(Frame::new(
        &[language, "$A", "</s>"],
        &[language, "$A", "$B", "</s>"],
    ));
    Ok(parts)
}

fn mbart(folder: &Folder, roles: &Roles, languages: &[&str]) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, FAIRSEQ, 3)?;
    let last = [languages, &["<mask>"]].concat();
    let scores = fairseq(&file, 3, &last);
    let mut parts = plain(folder, roles, &file, scores, FAIRSEQ_UNKNOWN)?;
    let language = source_language(folder)?;
    parts.frame = Some(Frame::new(
        &["$A", "</s>", language],
        &["$A", "$B", "</s>", language],
    ));
    let known: Vec<&str> = parts
        .additional
        .iter()
        .map(|named| named.token.content.as_str())
        .collect();
    let missing = languages
        .iter()
        .filter(|language| !known.contains(*language));
    let missing: Vec<Named> = missing.map(|language| Named::text(*language)).collect();
    parts.additional.extend(missing);
    Ok(parts)
}

/// The language of texts whose language nobody says.
fn source_language<'f>(folder: &'f Folder) -> Result<&'f str, TextError> {
    Ok(folder
        .text(Source::Tokenizer, "src_lang")?
        .unwrap_or("en_XX"))
}

fn xglm(folder: &Folder, roles: &Roles) -> Result<Parts, TextError> {
    let made_up: Vec<String> = (0..7).map(|at| format!("<madeupword{at}>")).collect();
    let file = SentencePiece::read(folder, FAIRSEQ, 3)?;
    let last: Vec<&str> = made_up.iter().map(String::as_str).collect();
    let mut parts = plain(
        folder,
        roles,
        &file,
        fairseq(&file, 3, &last),
        FAIRSEQ_UNKNOWN,
    )?;
    parts.frame = Some(Frame::new(
        &["</s>", "$A"],
        &["</s>", "$A", "</s>", "</s>", "$B"],
    ));
    parts
        .additional
        .extend(made_up.into_iter().map(Named::text));
    Ok(parts)
}

/// `SpmConverter`: spaces at the end go, repeated ones become one.
pub(super) fn plain(
    folder: &Folder,
    roles: &Roles,
    file: &SentencePiece,
    scores: Scores,
    unknown: usize,
) -> Result<Parts, TextError> {
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    steps.extend(file.charsmap()?.map(Into::into));
    steps.push(Strip::new(false, true).into());
    steps.push(one_space(folder, file.name(), "▁")?);
    let metaspace = metaspace(PrependScheme::Always);
    Ok(Parts {
        model: file.model(scores, unknown, false)?,
        tokens: file.tokens(&[]),
        normalizer: Some(Normalizers::new(steps).into()),
        pre_tokenizer: Some(metaspace.clone().into()),
        decoder: metaspace.into(),
        frame: None,
        additional: roles.additional.clone().unwrap_or_default(),
        source: None,
    })
}

/// `AlbertConverter` and `XLNetConverter`: quotes are made equal, accents and case may go, and a
/// number with a comma at its end is never one token.
fn accented(folder: &Folder, roles: &Roles, lower: bool) -> Result<Parts, TextError> {
    let file = SentencePiece::read(folder, SPIECE, 0)?;
    let mut scores = file.scores(0);
    for (token, score) in &mut scores {
        if number_with_comma(token) {
            *score -= 100.0;
        }
    }
    let mut parts = plain(folder, roles, &file, scores, file.unknown())?;
    let mut steps = vec![replace(folder, "``", "\"")?, replace(folder, "''", "\"")?];
    if !folder.flag("keep_accents", false)? {
        steps.push(NFKD.into());
        steps.push(StripAccents.into());
    }
    if folder.flag("do_lower_case", lower)? {
        steps.push(Lowercase.into());
    }
    steps.extend(file.charsmap()?.map(Into::into));
    steps.push(one_space(folder, SPIECE, " ")?);
    parts.normalizer = Some(Normalizers::new(steps).into());
    Ok(parts)
}

/// `check_number_comma`, reversed. Python's `isdigit` leaves out fractions and Roman numerals, which
/// no such vocabulary has with a comma: their normalisers take them apart.
fn number_with_comma(token: &str) -> bool {
    let before = token
        .strip_suffix(',')
        .and_then(|rest| rest.chars().next_back());
    before.is_some_and(char::is_numeric)
}

pub(super) fn fairseq(file: &SentencePiece, first: usize, last: &[&str]) -> Scores {
    let zero = |token: &&str| ((*token).to_owned(), 0.0);
    let begin = FAIRSEQ_FIRST.iter().map(zero);
    let rest = file.scores(first).into_iter();
    begin.chain(rest).chain(last.iter().map(zero)).collect()
}

fn fairseq_frame() -> Frame {
    Frame::new(
        &["<s>", "$A", "</s>"],
        &["<s>", "$A", "</s>", "</s>", "$B", "</s>"],
    )
}

fn cls_sep() -> Frame {
    Frame::new(
        &["[CLS]", "$A", "[SEP]"],
        &["[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"],
    )
}

fn metaspace(scheme: PrependScheme) -> Metaspace {
    Metaspace::new('▁', scheme, true)
}

fn one_space(folder: &Folder, file: &str, by: &str) -> Result<NormalizerWrapper, TextError> {
    let replace = guarded(|| Replace::new(ReplacePattern::Regex(" {2,}".into()), by));
    Ok(replace.map_err(|cause| folder.damaged(file, cause))?.into())
}

fn replace(folder: &Folder, from: &str, by: &str) -> Result<NormalizerWrapper, TextError> {
    let replace = guarded(|| Replace::new(from, by));
    Ok(replace
        .map_err(|cause| folder.damaged(SPIECE, cause))?
        .into())
}
