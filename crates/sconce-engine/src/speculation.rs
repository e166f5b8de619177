//! Guesses of what comes next, so that a step computes several tokens of a sequence.
//!
//! What is guessed is computed beside the token that is pending, and each token is picked as ever from its own logits:
//! a guess counts only if it is what is picked in its place. So answers are the same with and without, drawn ones too;
//! guesses decide only how many steps they take. `draft` lets a small model guess.

pub(crate) mod draft;

use std::path::PathBuf;

/// Who guesses, and how much at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speculation {
    /// So many tokens are guessed at most.
    pub tokens: usize,
    /// Who guesses.
    pub by: Guesser,
}

/// Who guesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guesser {
    /// The text itself (prompt lookup): what followed the same tokens before. Of so many tokens at most and at least.
    Lookup {
        /// The longest run of tokens that is looked for.
        longest: usize,
        /// The shortest one.
        shortest: usize,
    },
    /// A small model with the same vocabulary, in this folder.
    Draft(PathBuf),
}

impl Speculation {
    /// Guesses what follows these tokens, if the text itself tells; else leaves room for the model that will.
    pub(crate) fn guess(&self, known: &[u32], guess: &mut Vec<u32>) {
        guess.clear();
        match self.by {
            Guesser::Draft(_) => guess.resize(self.tokens, 0),
            Guesser::Lookup { longest, shortest } => {
                let found = (shortest..=longest)
                    .rev()
                    .find_map(|run| followed(known, run));
                if let Some(from) = found {
                    guess.extend(known[from..].iter().take(self.tokens));
                }
            }
        }
    }
}

/// Where the text goes on that followed its last `run` tokens when they came before, the last time.
fn followed(known: &[u32], run: usize) -> Option<usize> {
    let first = known.len().checked_sub(run).filter(|&first| first > 0)?;
    let wanted = &known[first..];
    let before = known[..known.len() - 1]
        .windows(run)
        .rposition(|tokens| tokens == wanted);
    before.map(|at| at + run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(known: &[u32], longest: usize, shortest: usize) -> Vec<u32> {
        let speculation = Speculation {
            tokens: 3,
            by: Guesser::Lookup { longest, shortest },
        };
        let mut guess = vec![9];
        speculation.guess(known, &mut guess);
        guess
    }

    #[test]
    fn what_followed_the_longest_run_the_last_time_is_guessed() {
        assert_eq!(guess(&[1, 2, 3, 4, 5, 1, 2], 3, 1), [3, 4, 5]);
        assert_eq!(
            guess(&[1, 2, 7, 9, 2, 8, 1, 2], 2, 1),
            [7, 9, 2],
            "the longer run wins"
        );
        assert_eq!(
            guess(&[1, 2, 7, 1, 2, 8, 1, 2], 2, 1),
            [8, 1, 2],
            "the later place wins"
        );
        assert_eq!(guess(&[1, 1, 1], 2, 1), [1], "it may overlap");
        assert!(
            guess(&[1, 2, 7, 9, 2], 3, 2).is_empty(),
            "shorter runs are not asked for"
        );
        assert!(guess(&[1, 2, 3], 3, 1).is_empty());
        assert!(guess(&[1], 3, 1).is_empty());
        assert!(guess(&[], 3, 1).is_empty());
    }
}
