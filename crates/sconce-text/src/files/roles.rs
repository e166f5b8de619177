//! Tokens with a role (`bos_token`, `additional_special_tokens`, …): what a class fills in and
//! what the configuration says, in the order in which transformers adds them.

use serde_json::Value;
use tokenizers::AddedToken;

use crate::error::TextError;
use crate::files::folder::Folder;

/// The roles of one token, in transformers' order (`SPECIAL_TOKENS_ATTRIBUTES`).
const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
const SEVERAL: &str = "additional_special_tokens";
const EXTRA: &str = "extra_special_tokens";

/// A role as a class declares it.
pub(super) struct Role {
    name: &'static str,
    /// The token where the configuration does not say; none if the class has none.
    content: Option<&'static str>,
    form: Form,
}

/// What a token that is written as mere text becomes, which the constructors of the slow
/// classes decide.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// It stays text: an added token with the same text decides how it matches.
    Text,
    /// Matched before the text is normalised.
    Exact,
    /// Matched in the normalised text.
    Normalized,
    /// As `Exact`, with the spaces before it.
    ExactLeft,
    /// As `Exact`, with the spaces on both sides.
    ExactBoth,
    /// As `Normalized`, with the spaces before it.
    NormalizedLeft,
}

impl Role {
    /// A role that the class fills with `content`.
    pub(super) const fn new(name: &'static str, content: &'static str, form: Form) -> Self {
        Self {
            name,
            content: Some(content),
            form,
        }
    }

    /// A role that only the configuration fills.
    pub(super) const fn open(name: &'static str, form: Form) -> Self {
        Self {
            name,
            content: None,
            form,
        }
    }
}

/// A token with a role.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) token: AddedToken,
    /// Written as mere text: gives way to an added token with this content.
    pub(super) yields: bool,
}

impl Named {
    /// A token given as text.
    pub(super) fn text(content: impl Into<String>) -> Self {
        Self {
            token: AddedToken::from(content, true),
            yields: true,
        }
    }
}

/// The roles of a folder's tokenizer, filled.
pub(super) struct Roles {
    single: Vec<(&'static str, Named)>,
    /// `additional_special_tokens` of the configuration, if it has the key.
    pub(super) additional: Option<Vec<Named>>,
    extra: Vec<Named>,
    /// Contents of the roles that the configuration fills, by whatever file.
    pub(super) configured: Vec<String>,
}

impl Roles {
    /// Fills the class's roles from the configuration.
    pub(super) fn read(folder: &Folder, class: &[Role]) -> Result<Self, TextError> {
        let mut single = Vec::new();
        let mut configured = Vec::new();
        for name in NAMES {
            let declared = class.iter().find(|role| role.name == name);
            let form = declared.map_or(Form::Text, |role| role.form);
            let named = match folder.value(name) {
                None => declared
                    .and_then(|role| role.content)
                    .map(|content| from_text(content, form)),
                Some((_, Value::Null)) => None,
                Some((file, value)) => {
                    let named = configured_role(folder, file, name, value, form)?;
                    configured.push(named.token.content.clone());
                    Some(named)
                }
            };
            single.extend(named.map(|named| (name, named)));
        }
        let additional = list(folder, SEVERAL)?;
        let extra = list(folder, EXTRA)?.unwrap_or_default();
        let contents = additional.iter().flatten();
        configured.extend(contents.map(|named| named.token.content.clone()));
        Ok(Self {
            single,
            additional,
            extra,
            configured,
        })
    }

    /// The content of a role.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.single.iter().find(|(role, _)| *role == name);
        found.map(|(_, named)| named.token.content.as_str())
    }

    /// The content of a role that `reason` needs.
    pub(super) fn need(
        &self,
        folder: &Folder,
        name: &str,
        reason: &'static str,
    ) -> Result<&str, TextError> {
        self.get(name).ok_or_else(|| {
            let (file, value) = folder
                .value(name)
                .unwrap_or(("tokenizer_config.json", &Value::Null));
            folder.wrong(file, name, value, reason)
        })
    }

    /// All tokens with a role, `additional` being those of `additional_special_tokens`; of equal
    /// contents only the first.
    pub(super) fn all(&self, additional: &[Named]) -> Vec<Named> {
        let single = self.single.iter().map(|(_, named)| named);
        let mut all: Vec<Named> = Vec::new();
        for named in single.chain(additional).chain(&self.extra) {
            if all
                .iter()
                .all(|known| known.token.content != named.token.content)
            {
                all.push(named.clone());
            }
        }
        all
    }
}

fn from_text(content: &str, form: Form) -> Named {
    let token = AddedToken::from(content, true);
    let both = matches!(form, Form::ExactBoth);
    let left = both || matches!(form, Form::ExactLeft | Form::NormalizedLeft);
    let normalized = matches!(form, Form::Normalized | Form::NormalizedLeft);
    Named {
        token: token.lstrip(left).rstrip(both).normalized(normalized),
        yields: matches!(form, Form::Text),
    }
}

fn configured_role(
    folder: &Folder,
    file: &'static str,
    key: &str,
    value: &Value,
    form: Form,
) -> Result<Named, TextError> {
    let token = folder.token(file, key, value)?;
    let mut added = folder.added.iter().filter(|_| folder.decoder);
    let same = added.find(|(_, added)| added.content == token.content);
    Ok(match (same, value) {
        (Some((_, added)), _) => Named {
            token: added.clone().special(true),
            yields: false,
        },
        (None, Value::String(content)) => from_text(content, form),
        (None, _) => Named {
            token: token.special(true),
            yields: false,
        },
    })
}

fn list(folder: &Folder, key: &str) -> Result<Option<Vec<Named>>, TextError> {
    let mut named = Vec::new();
    let values = folder.list(key);
    for &(file, value) in &values {
        let entries: Vec<&Value> = match value {
            Value::Array(tokens) => tokens.iter().collect(),
            Value::Object(tokens) if key == EXTRA => tokens.values().collect(),
            other => return Err(folder.wrong(file, key, other, "a list of tokens")),
        };
        for entry in entries {
            named.push(Named {
                token: folder.token(file, key, entry)?.special(true),
                yields: entry.is_string(),
            });
        }
    }
    Ok((!values.is_empty()).then_some(named))
}
