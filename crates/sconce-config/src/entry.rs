//! What the table of options consists of, and how a name finds its entry.

use crate::draft::Draft;
use crate::kind::Kind;
use crate::options::options;
use crate::value::Value;

/// One option: its names, its default, its meaning, and what becomes of its value.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// The name under which it is documented and reported; unique in the table.
    pub(crate) key: &'static str,
    pub(crate) scope: Scope,
    /// Other spellings, valid wherever the key is.
    pub(crate) aliases: &'static [&'static str],
    /// Variables beside those that follow from the scope, strongest first.
    pub(crate) variables: &'static [Variable],
    /// What a value is.
    pub(crate) kind: Kind,
    /// As it would be written; empty: unset.
    pub(crate) default: &'static str,
    /// The release of DJL Serving in which the key appeared, such as `0.27`; empty: before 0.21,
    /// or not DJL Serving's own; `sconce`: it is this program's.
    pub(crate) since: &'static str,
    /// The last release that read it; empty: it is still read.
    pub(crate) until: &'static str,
    /// One line for the reference.
    pub(crate) doc: &'static str,
    pub(crate) status: Status,
    /// Whether the value must not be shown.
    pub(crate) secret: bool,
}

/// Where an option is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `serving.properties`, with or without the prefix `option.`; also `OPTION_<NAME>`.
    Option,
    /// `serving.properties`, without prefix; also `ARGS_<NAME>`.
    Model,
    /// `config.properties`; also `SERVING_<KEY>`.
    Server,
    /// `config.properties` for all models, `serving.properties` for one, which wins.
    ServerOrModel,
    /// Only the variables listed with the entry; the key is the first of them.
    Environment,
    /// Only the command line.
    CommandLine,
}

impl Scope {
    pub(crate) fn in_model_file(self) -> bool {
        matches!(self, Self::Option | Self::Model | Self::ServerOrModel)
    }

    pub(crate) fn in_server_file(self) -> bool {
        matches!(self, Self::Server | Self::ServerOrModel)
    }
}

/// An environment variable with a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    /// Counts only where nothing else sets the option.
    Fills(&'static str),
    /// Wins over the files.
    Overrides(&'static str),
}

impl Variable {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fills(name) | Self::Overrides(name) => name,
        }
    }
}

/// Writes a value into the draft of the settings.
pub(crate) type Apply = fn(&mut Draft, &str) -> Value<()>;

/// What becomes of an option.
#[derive(Clone, Copy)]
pub(crate) enum Status {
    /// It does what it says.
    Honoured(Apply),
    /// It does what it says by way of something else.
    Translated {
        /// What it sets instead: a key, or a sentence's end.
        to: &'static str,
        apply: Apply,
    },
    /// It does what it says where Python code of the user's answers.
    OwnCode {
        /// Why nothing is lost where a native engine does.
        otherwise: &'static str,
        apply: Apply,
    },
    /// Accepted without effect: why nothing is lost. Values that are not of the option's kind are
    /// refused all the same.
    NoOp(&'static str),
    /// Not taken.
    Refused {
        /// Why, and what to do instead.
        reason: &'static str,
        /// Values that ask for nothing that is missing.
        harmless: &'static [&'static str],
    },
}

impl Status {
    /// Whether the value reaches the settings.
    pub(crate) fn has_effect(self) -> bool {
        matches!(
            self,
            Self::Honoured(_) | Self::Translated { .. } | Self::OwnCode { .. }
        )
    }

    /// Whether it is for Python mode only.
    pub(crate) fn is_of_own_code(self) -> bool {
        matches!(self, Self::OwnCode { .. })
    }
}

impl Status {
    /// What becomes of the option, in a few words, and how the sentence goes on; both are empty
    /// for what simply does what it says.
    pub(crate) fn told(self) -> (String, String) {
        match self {
            Self::Honoured(_) => (String::new(), String::new()),
            Self::Translated { to, .. } => ("Translated:".into(), format!(" it sets {to}.")),
            Self::OwnCode { otherwise, .. } => (
                "Python mode only:".into(),
                format!(" elsewhere it has no effect, as {otherwise}."),
            ),
            Self::NoOp(reason) => ("No effect:".into(), format!(" {reason}.")),
            Self::Refused { reason, harmless } => {
                let except = match harmless {
                    [] => String::new(),
                    values => format!(", except {}", values.join(", ")),
                };
                (format!("Refused{except}:"), format!(" {reason}."))
            }
        }
    }
}

impl Entry {
    /// The releases of DJL Serving that read it.
    pub(crate) fn releases(&self) -> String {
        match (self.since, self.until) {
            ("", "") => String::new(),
            ("sconce", _) => "sconce only".into(),
            (since, "") => format!("since {since}"),
            ("", until) => format!("until {until}"),
            (since, until) if since == until => since.into(),
            (since, until) => format!("{since} to {until}"),
        }
    }

    /// Key and aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.key).chain(self.aliases.iter().copied())
    }
}

/// The entry that `serving.properties` calls so. The prefix `option.` may be missing: handlers of
/// DJL Serving get their options without it, and so read them either way.
pub(crate) fn of_model(name: &str) -> Option<&'static Entry> {
    find(name, Scope::in_model_file)
        .or_else(|| find(&format!("option.{name}"), |scope| scope == Scope::Option))
}

/// The entry that `config.properties` calls so.
pub(crate) fn of_server(name: &str) -> Option<&'static Entry> {
    find(name, Scope::in_server_file).filter(|_| !name.starts_with("option."))
}

fn find(name: &str, is_here: fn(Scope) -> bool) -> Option<&'static Entry> {
    options().find(|entry| is_here(entry.scope) && entry.names().any(|known| known == name))
}

/// The entry that lists this variable, the variable, and its place in the list.
pub(crate) fn of_variable(name: &str) -> Option<(&'static Entry, Variable, usize)> {
    options().find_map(|entry| {
        let place = entry
            .variables
            .iter()
            .position(|variable| variable.name() == name)?;
        Some((entry, entry.variables[place], place))
    })
}

/// The entry with this key.
pub(crate) fn of_key(key: &str) -> Option<&'static Entry> {
    options().find(|entry| entry.key == key)
}
