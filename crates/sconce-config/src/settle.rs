//! Decides which of several settings of an option counts, and writes the winners into the draft.

use crate::draft::Draft;
use crate::entry::{Scope, Status};
use crate::error::ConfigError;
use crate::gather::Setting;
use crate::options::options;
use crate::provenance::{Origin, Provenance, shown};
use crate::value::Rejection;

/// The setting of an option that counts.
pub(crate) struct Settled<'a> {
    pub(crate) setting: &'a Setting,
    weaker: Vec<&'a Setting>,
}

/// The strongest setting of each option that anybody sets, weak ones first and otherwise in the
/// order of the table: whoever applies them in turn gives the last word to the strongest.
pub(crate) fn settle(settings: &[Setting]) -> Vec<Settled<'_>> {
    let mut settled: Vec<_> = options()
        .filter_map(|entry| winner(settings, entry.key))
        .collect();
    settled.sort_by_key(|settled| settled.setting.strength);
    settled
}

fn winner<'a>(settings: &'a [Setting], key: &str) -> Option<Settled<'a>> {
    let mut rivals: Vec<_> = settings
        .iter()
        .filter(|setting| setting.entry.key == key)
        .collect();
    // Stable: of equals the one found first stays first.
    rivals.sort_by_key(|setting| std::cmp::Reverse(setting.strength));
    let mut rivals = rivals.into_iter();
    rivals.next().map(|setting| Settled {
        setting,
        weaker: rivals.collect(),
    })
}

impl Settled<'_> {
    /// Writes the value into the draft.
    pub(crate) fn apply(&self, draft: &mut Draft) -> Result<(), ConfigError> {
        let Setting { entry, value, .. } = self.setting;
        draft.apply(entry, value).map_err(|rejection| {
            let written = self.setting.written();
            match rejection {
                Rejection::Invalid(problem) => ConfigError::Invalid {
                    written,
                    problem,
                    default: entry.default,
                },
                Rejection::Unsupported(reason) => ConfigError::Unsupported { written, reason },
            }
        })
    }

    /// Text that waits for somebody to replace it, which nobody does.
    fn placeholder(&self) -> Option<ConfigError> {
        let value = &self.setting.value;
        let start = value.find("${")?;
        let length = value[start..].find('}')? + 1;
        Some(ConfigError::Placeholder {
            written: self.setting.written(),
            text: value[start..start + length].into(),
        })
    }

    /// Another spelling of equal strength that says something else.
    pub(crate) fn conflict(&self) -> Option<ConfigError> {
        let Setting {
            entry,
            value,
            strength,
            ..
        } = self.setting;
        let differs = |other: &&&Setting| other.strength == *strength && other.value != *value;
        let other = self.weaker.iter().find(differs)?;
        let (first, second) = (self.setting.written(), other.written());
        entry
            .status
            .has_effect()
            .then_some(ConfigError::Conflict { first, second })
    }

    /// For the log.
    pub(crate) fn origin(&self) -> Origin {
        let Setting {
            entry,
            value,
            from,
            spelling,
            ..
        } = self.setting;
        let mut notes = Vec::new();
        if spelling != entry.key {
            notes.push(format!("written as {spelling}"));
        }
        match entry.status {
            Status::NoOp(reason) => notes.push(format!("without effect: {reason}")),
            Status::Translated { to, .. } => notes.push(format!("which sets {to}")),
            Status::OwnCode { otherwise, .. } => {
                notes.push(format!("which counts in Python mode only: {otherwise}"));
            }
            Status::Honoured(_) | Status::Refused { .. } => {}
        }
        if entry.status.has_effect() && !self.weaker.is_empty() {
            let weaker = self.weaker.iter().map(|setting| setting.from.to_string());
            let weaker = weaker.collect::<Vec<_>>().join(" and ");
            notes.push(format!("which wins over {weaker}"));
        }
        let note = (!notes.is_empty()).then(|| notes.join(", "));
        Origin {
            key: entry.key.into(),
            value: shown(value, entry.secret),
            from: from.clone(),
            note,
        }
    }
}

/// The honoured options that nobody sets and that have a default.
pub(crate) fn defaults(settled: &[Settled<'_>]) -> Vec<Origin> {
    let is_set = |key| {
        settled
            .iter()
            .any(|settled| settled.setting.entry.key == key)
    };
    let unset = options().filter(|entry| !entry.default.is_empty() && !is_set(entry.key));
    let honoured = unset.filter(|entry| entry.status.has_effect());
    let origin = |key: &str, value: &str| Origin {
        key: key.into(),
        value: value.into(),
        from: Provenance::Default,
        note: None,
    };
    honoured
        .map(|entry| origin(entry.key, entry.default))
        .collect()
}

/// Applies those settings whose scope is wanted; returns the problems and the keys that have one.
pub(crate) fn apply_all(
    draft: &mut Draft,
    settled: &[Settled<'_>],
    wanted: fn(Scope) -> bool,
) -> Vec<(&'static str, ConfigError)> {
    let wanted = settled
        .iter()
        .filter(|settled| wanted(settled.setting.entry.scope));
    let mut problems = Vec::new();
    for settled in wanted {
        let problem = settled.placeholder().or_else(|| settled.apply(draft).err());
        let all = problem.into_iter().chain(settled.conflict());
        problems.extend(all.map(|problem| (settled.setting.entry.key, problem)));
    }
    problems
}
