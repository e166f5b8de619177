//! Variables whose names are made of keys: `SERVING_*`, `OPTION_*` and `ARGS_*`.

use crate::entry::{self, Entry, Scope};
use crate::options::options;

/// The prefixes of variables that stand for keys of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    Serving,
    Option,
    Args,
}

impl Prefix {
    pub(crate) fn of(name: &str) -> Option<Self> {
        let all = [Self::Serving, Self::Option, Self::Args];
        all.into_iter()
            .find(|prefix| name.starts_with(prefix.text()))
    }

    fn text(self) -> &'static str {
        match self {
            Self::Serving => "SERVING_",
            Self::Option => "OPTION_",
            Self::Args => "ARGS_",
        }
    }

    /// The entry whose key the variable stands for. Names in capitals stand for small letters;
    /// `ENTRYPOINT` is the one key of mixed case that has a form in capitals.
    pub(crate) fn entry(self, variable: &str) -> Option<&'static Entry> {
        let name = self.key(variable);
        match self {
            Self::Serving => entry::of_server(&name),
            Self::Option => entry::of_model(&format!("option.{name}")),
            Self::Args => entry::of_model(&name),
        }
    }

    /// The key without `option.` that the variable stands for in a handler's eyes; `None`: it is
    /// the server's.
    pub(crate) fn model_key(self, variable: &str) -> Option<String> {
        (self != Self::Serving).then(|| self.key(variable))
    }

    fn key(self, variable: &str) -> String {
        let name = &variable[self.text().len()..];
        let is_capital = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        match name {
            "ENTRYPOINT" => "entryPoint".into(),
            name if name.chars().all(is_capital) => name.to_lowercase(),
            name => name.to_owned(),
        }
    }

    /// Every variable with this prefix that sets an option.
    pub(crate) fn names(self) -> Vec<String> {
        let listed = options().flat_map(|entry| entry.variables);
        let listed = listed.map(|variable| variable.name().to_owned());
        let made = options().filter(|entry| match self {
            Self::Serving => entry.scope.in_server_file(),
            Self::Option => entry.scope == Scope::Option,
            Self::Args => matches!(entry.scope, Scope::Model | Scope::ServerOrModel),
        });
        let made = made.flat_map(Entry::names).map(|key| self.variable(key));
        let mut names: Vec<_> = listed.filter(|name| Self::of(name) == Some(self)).collect();
        // Only what is read back is proposed: keys of mixed case keep theirs.
        names.extend(made.filter(|name| self.entry(name).is_some()));
        names
    }

    /// The variable that stands for a key.
    pub(crate) fn variable(self, key: &str) -> String {
        let name = key.strip_prefix("option.").unwrap_or(key);
        let is_mixed = name.contains(|c: char| c.is_ascii_uppercase()) && name != "entryPoint";
        let name = if is_mixed {
            name.to_owned()
        } else {
            name.to_uppercase()
        };
        format!("{}{name}", self.text())
    }
}
