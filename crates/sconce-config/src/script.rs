//! What a script of the user's is for, told from the names in it: nothing is run to find out.
//!
//! A `model.py` may answer requests itself (`handle`), or it may only have functions that change
//! requests and answers of another handler, which DJL Serving finds by their decorators.

use std::fs;
use std::path::Path;

use crate::draft::Draft;
use crate::gather::Gathered;
use crate::handler::Handler;

/// What a script is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It answers.
    Answers,
    /// It changes requests or answers of the native engine.
    Formats,
    /// Neither: it names no function that anybody would call.
    Nothing,
}

/// The handler for models of scikit-learn.
pub(crate) const SKLEARN: &str = "djl_python.sklearn_handler";

/// The function that answers where no option names another.
const HANDLE: &str = "handle";

/// Where DJL Serving looks for functions with decorators.
const WITH_DECORATORS: &str = "model.py";

/// What a script is for. A file that is no script of the model's directory answers.
pub(crate) fn role(file: &Path, gathered: &Gathered, draft: &Draft) -> Role {
    let Ok(text) = fs::read_to_string(file) else {
        return Role::Answers;
    };
    let is_native = draft
        .facts
        .handler
        .is_some_and(|handler| handler != Handler::OwnCode);
    if !is_native && names(&text, &draft.python.handler) {
        return Role::Answers;
    }
    let has_place = file.file_name().is_some_and(|name| name == WITH_DECORATORS);
    let decorators = ["input_formatter", "output_formatter"];
    let is_decorated = decorators.iter().any(|decorator| names(&text, decorator));
    let is_named = || output_function(gathered).is_some_and(|name| names(&text, name));
    if !is_native && file.parent().is_some_and(has_pickled_model) {
        // The handler of scikit-learn calls its functions.
        return Role::Answers;
    }
    match has_place && (is_decorated || is_named()) {
        true => Role::Formats,
        // As in DJL Serving, the checkpoint beside it is served then.
        false if may_be_idle(draft) && has_checkpoint(file) => Role::Nothing,
        // Python tells what is missing.
        false if !is_native => Role::Answers,
        false => Role::Nothing,
    }
}

/// The function for answers that `option.output_formatter` names, if it can be the name of one.
pub(crate) fn output_function(gathered: &Gathered) -> Option<&str> {
    let settings = gathered.settings.iter();
    let settings = settings.filter(|setting| setting.entry.key == "option.output_formatter");
    let strongest = settings.max_by_key(|setting| setting.strength)?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = strongest.value.as_str();
    name.chars().all(is_part).then_some(name)
}

/// Whether a directory without a checkpoint has a model of scikit-learn, as DJL Serving tells.
pub(crate) fn has_pickled_model(dir: &Path) -> bool {
    const ENDS: &[&str] = &["skops", "joblib", "pkl", "pickle", "cloudpkl"];
    let is_one = |path: std::path::PathBuf| {
        let end = path.extension().and_then(|end| end.to_str());
        end.is_some_and(|end| ENDS.contains(&end))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    !dir.join("config.json").is_file() && entries.map(|entry| entry.path()).any(is_one)
}

/// Whether nobody says that a script answers.
fn may_be_idle(draft: &Draft) -> bool {
    draft.facts.handler.is_none() && draft.python.handler == HANDLE
}

fn has_checkpoint(script: &Path) -> bool {
    script.with_file_name("config.json").is_file()
}

fn names(text: &str, wanted: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !is_part(c)).any(|word| word == wanted)
}
