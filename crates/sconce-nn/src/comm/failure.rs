//! Why a group of ranks is of no use any more: the first cause, which rank it was, and where.

use std::fmt;
use std::time::Duration;

/// What a group was told to do when something failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Loading the model.
    #[default]
    Loading,
    /// Reserving the key/value cache.
    Reserving,
    /// A forward pass; the first one, before any request, is 0.
    Step(u64),
}

/// The first failure of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupFailure {
    /// A rank said that it failed.
    Failed {
        /// The rank.
        rank: usize,
        /// What it was doing.
        place: Place,
        /// The last collective that it took part in, if any.
        after: Option<String>,
        /// Its error or panic.
        cause: String,
    },
    /// Ranks give no sign of life.
    Stalled {
        /// These.
        ranks: Vec<usize>,
        /// What they were doing.
        place: Place,
        /// The collective in which others wait for them, and the first that gave up; `None`: nobody waits in one.
        waiting: Option<(usize, String)>,
        /// The length of the silence.
        silence: Duration,
    },
    /// Ranks came to different collectives.
    Mismatch {
        /// The rank that differs.
        rank: usize,
        /// Its operation.
        got: String,
        /// The rank that came first.
        other: usize,
        /// The operation of that one.
        wanted: String,
    },
    /// Somebody outside stopped it.
    Stopped {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loading => out.write_str("while loading"),
            Self::Reserving => out.write_str("while reserving the key/value cache"),
            Self::Step(number) => write!(out, "at step {number}"),
        }
    }
}

impl fmt::Display for GroupFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed {
                rank,
                place,
                after,
                cause,
            } => {
                write!(out, "rank {rank} failed {place}")?;
                if let Some(after) = after {
                    write!(out, ", after {after}")?;
                }
                write!(out, ": {cause}")
            }
            Self::Stalled {
                ranks,
                place,
                waiting,
                silence,
            } => {
                let (noun, names) = match &**ranks {
                    [rank] => ("rank", rank.to_string()),
                    ranks => ("ranks", joined(ranks)),
                };
                write!(out, "{noun} {names} stalled {place}: ")?;
                if let Some((waiting, operation)) = waiting {
                    write!(out, "rank {waiting} waits in {operation}, and ")?;
                }
                write!(out, "there was no sign of life for {silence:?}")
            }
            Self::Mismatch {
                rank,
                got,
                other,
                wanted,
            } => write!(
                out,
                "rank {rank} is at {got}, where rank {other} is at {wanted}: the ranks run different plans"
            ),
            Self::Stopped { reason } => write!(out, "the group of ranks was stopped: {reason}"),
        }
    }
}

fn joined(ranks: &[usize]) -> String {
    let ranks: Vec<_> = ranks.iter().map(usize::to_string).collect();
    ranks.join(", ")
}
