//! What requests say of a search with beams, in transformers' words. How many beams there are each dialect says in its own.

use sconce_core::{AskedSampling, BeamSearch, EarlyStopping, ServeError};
use serde_json::Value;

use crate::fields::Fields;

type Result<T> = std::result::Result<T, ServeError>;

/// Most beams of a request.
pub(crate) const MOST_BEAMS: i128 = 128;

/// How scores and ends are weighed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Weighing {
    pub(crate) length_penalty: Option<f64>,
    pub(crate) early_stopping: Option<EarlyStopping>,
}

/// Reads `length_penalty` and `early_stopping`.
pub(crate) fn weighing(fields: &mut Fields) -> Result<Weighing> {
    Ok(Weighing {
        length_penalty: length_penalty(fields, "length_penalty")?,
        early_stopping: early_stopping(fields)?,
    })
}

/// The power of the length by which scores are divided.
pub(crate) fn length_penalty(fields: &mut Fields, key: &'static str) -> Result<Option<f64>> {
    let problem = "must be a number from -100 to 100";
    let found = fields.number(key, |x| (-100.0..=100.0).contains(&x), problem)?;
    Ok(found.map(f64::from))
}

/// When beams end.
pub(crate) fn early_stopping(fields: &mut Fields) -> Result<Option<EarlyStopping>> {
    const KEY: &str = "early_stopping";
    match fields.take(KEY) {
        None => Ok(None),
        Some(Value::Bool(false)) => Ok(Some(EarlyStopping::Likely)),
        Some(Value::Bool(true)) => Ok(Some(EarlyStopping::Full)),
        Some(Value::String(name)) if name == "never" => Ok(Some(EarlyStopping::Never)),
        Some(other) => {
            let problem = "must be true, false or \"never\"";
            Err(ServeError::parameter(KEY, other, problem))
        }
    }
}

/// Asks for as many beams as there are answers.
pub(crate) const FLAG: &str = "use_beam_search";

/// A number of beams.
pub(crate) fn count(fields: &mut Fields, key: &'static str) -> Result<Option<usize>> {
    let problem =
        format!("must be a whole number from 1 to {MOST_BEAMS}; 1 picks each token by itself");
    let found = fields.integer(key, 1..=MOST_BEAMS, &problem)?;
    Ok(found.map(|count| count as usize))
}

impl Weighing {
    /// A search with so many beams, which `key` asks for, of which so many are told; `None` where there is one. What the request
    /// says of sampling must not ask for any.
    pub(crate) fn search(
        self,
        key: &'static str,
        (beams, returned): (usize, usize),
        sampling: &mut AskedSampling,
    ) -> Result<Option<BeamSearch>> {
        if beams <= 1 {
            return Ok(None);
        }
        if sampling.do_sample == Some(true) {
            let problem = "cannot be joined with sampling, which do_sample and temperature ask for; leave one out";
            return Err(ServeError::parameter(key, beams, problem));
        }
        // Where a dialect samples unless told otherwise.
        sampling.do_sample = Some(false);
        Ok(Some(BeamSearch {
            beams,
            // The flag has the number from elsewhere.
            key: if key == FLAG { "best_of" } else { key },
            returned,
            length_penalty: self.length_penalty.unwrap_or(1.0),
            early_stopping: self.early_stopping.unwrap_or_default(),
        }))
    }

    /// Fails on what acts on beams where there are none.
    pub(crate) fn only_with(self, search: Option<&BeamSearch>) -> Result<()> {
        let penalty = self.length_penalty.filter(|penalty| *penalty != 1.0);
        let stopping = self
            .early_stopping
            .filter(|stopping| *stopping != EarlyStopping::Likely);
        let problem = "acts on beams, and there are none; set num_beams or leave it out";
        match (search, penalty, stopping) {
            (Some(_), ..) | (None, None, None) => Ok(()),
            (None, Some(penalty), _) => {
                Err(ServeError::parameter("length_penalty", penalty, problem))
            }
            (None, None, Some(stopping)) => {
                let name = match stopping {
                    EarlyStopping::Never => "\"never\"",
                    _ => "true",
                };
                Err(ServeError::parameter("early_stopping", name, problem))
            }
        }
    }
}

/// Fails where a search would be streamed.
pub(crate) fn refuse_stream(
    key: &'static str,
    search: Option<&BeamSearch>,
    streams: bool,
) -> Result<()> {
    match search.filter(|_| streams) {
        None => Ok(()),
        Some(search) => {
            let problem = "beams cannot be streamed: each may change all that was told; set it to 1 or do not stream";
            Err(ServeError::parameter(key, search.beams, problem))
        }
    }
}
