//! What the table of options consists of, and how a name finds its entry.

use crate::draft::Draft;
use crate::options::OPTIONS;
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
    /// As it would be written; empty: unset.
    pub(crate) default: &'static str,
    /// One line for the reference.
    pub(crate) doc: &'static str,
    pub(crate) status: Status,
    /// Whether the value must not be shown.
    pub(crate) secret: bool,
}

/// Where an option is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `serving.properties`, with the prefix `option.`; also `OPTION_<NAME>`.
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
    /// Accepted without effect.
    NoOp {
        /// Why nothing is lost.
        reason: &'static str,
        /// Refuses values that have no meaning at all.
        check: fn(&str) -> Value<()>,
    },
    /// Not taken.
    Refused {
        /// Why, and what to do instead.
        reason: &'static str,
        /// Values that ask for nothing that is missing.
        harmless: &'static [&'static str],
    },
}

impl Entry {
    /// Key and aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.key).chain(self.aliases.iter().copied())
    }
}

/// The entry that `serving.properties` calls so.
pub(crate) fn of_model(name: &str) -> Option<&'static Entry> {
    find(name, Scope::in_model_file)
}

/// The entry that `config.properties` calls so.
pub(crate) fn of_server(name: &str) -> Option<&'static Entry> {
    find(name, Scope::in_server_file)
}

fn find(name: &str, is_here: fn(Scope) -> bool) -> Option<&'static Entry> {
    OPTIONS
        .iter()
        .find(|entry| is_here(entry.scope) && entry.names().any(|known| known == name))
}

/// The entry that lists this variable, the variable, and its place in the list.
pub(crate) fn of_variable(name: &str) -> Option<(&'static Entry, Variable, usize)> {
    OPTIONS.iter().find_map(|entry| {
        let place = entry
            .variables
            .iter()
            .position(|variable| variable.name() == name)?;
        Some((entry, entry.variables[place], place))
    })
}

/// The entry with this key.
pub(crate) fn of_key(key: &str) -> Option<&'static Entry> {
    OPTIONS.iter().find(|entry| entry.key == key)
}
