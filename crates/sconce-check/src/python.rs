//! A model whose own Python code answers: nothing of it is run or planned here, and the report says
//! so.

use sconce_config::{ModelSettings, ModelSource, PythonSettings};

use crate::report::{ModelPart, Reason};

/// Tells which functions would change requests or answers of the native engine.
pub(crate) fn beside(settings: &ModelSettings, python: &PythonSettings) -> Reason {
    Reason {
        code: "custom-code",
        message: format!(
            "requests or answers of model {} are changed by Python code: a start runs {} in a process \
             of {} for its functions with @input_formatter and @output_formatter",
            settings.name, python.entry_point, python.executable,
        ),
    }
}

/// Tells what a start would run.
pub(crate) fn describe(
    settings: &ModelSettings,
    python: &PythonSettings,
    model: &mut ModelPart,
) -> Reason {
    model.engine = "python";
    let most = match python.max_workers {
        Some(most) => format!("{} to {most}", python.min_workers),
        None => format!("{} or more", python.min_workers),
    };
    let requirements = match python.dir.join("requirements.txt") {
        file if file.is_file() => format!(", after installing {}", file.display()),
        _ => String::new(),
    };
    Reason {
        code: "custom-code",
        message: format!(
            "model {} is answered by Python code: a start runs {}, function {}, in {} in {most} \
             processes of {}{requirements}; memory and speed are the code's own and not planned",
            settings.name,
            python.entry_point,
            python.handler,
            place(settings, python),
            python.executable,
        ),
    }
}

/// Where the code lies.
fn place(settings: &ModelSettings, python: &PythonSettings) -> String {
    match &settings.source {
        ModelSource::S3(model) if python.is_fetched => model.url(),
        _ => python.dir.display().to_string(),
    }
}
