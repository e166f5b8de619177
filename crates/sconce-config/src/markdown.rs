//! The reference of all options, made from the table.

use std::fmt::Write;

use crate::entry::{Entry, Scope, Status, Variable};
use crate::options::OPTIONS;

const HEAD: &str = "# Options

<!-- Made by `sconce options` from the table in src/options.rs; do not edit. -->

Precedence, from weak to strong: default, `config.properties`, variables marked *fills*,
`SERVING_*` and `OPTION_*`, `serving.properties`, variables marked *overrides*, the command line.
An unknown key ends the start with exit code 64 and the nearest known key;
`SCONCE_STRICT=warn` makes it a warning.
";

const SECTIONS: [(Scope, &str); 6] = [
    (Scope::CommandLine, "The command line"),
    (Scope::Environment, "The environment only"),
    (Scope::Server, "`config.properties`, or `SERVING_<KEY>`"),
    (
        Scope::ServerOrModel,
        "`config.properties` for all models, `serving.properties` for one (which wins)",
    ),
    (Scope::Model, "`serving.properties`, without prefix"),
    (
        Scope::Option,
        "`serving.properties`, or `OPTION_<KEY>` without `option.`",
    ),
];

/// The reference as Markdown: a table for each place where options are written.
pub fn options_markdown() -> String {
    let mut text = String::from(HEAD);
    for (scope, title) in SECTIONS {
        text.push_str("\n## ");
        text.push_str(title);
        text.push_str("\n\n| Key | Also | Default | Meaning |\n| --- | --- | --- | --- |\n");
        for entry in OPTIONS.iter().filter(|entry| entry.scope == scope) {
            text.push_str(&row(entry));
        }
    }
    text
}

fn row(entry: &Entry) -> String {
    let default = match entry.default {
        "" => String::new(),
        default => format!("`{default}`"),
    };
    let mut meaning = cell(entry.doc);
    let add = |meaning: &mut String, text: String| {
        write!(meaning, " {text}").expect("writing to a string does not fail");
    };
    match entry.status {
        Status::Honoured(_) => {}
        Status::NoOp { reason, .. } => {
            add(&mut meaning, format!("**No effect:** {}.", cell(reason)));
        }
        Status::Refused { reason, harmless } => {
            let except = match harmless {
                [] => String::new(),
                values => format!(", except `{}`", values.join("`, `")),
            };
            add(
                &mut meaning,
                format!("**Refused{except}:** {}.", cell(reason)),
            );
        }
    }
    format!(
        "| `{}` | {} | {default} | {meaning} |\n",
        entry.key,
        others(entry)
    )
}

/// Other names of an option.
fn others(entry: &Entry) -> String {
    let aliases = entry.aliases.iter().map(|alias| format!("`{alias}`"));
    let variables = entry
        .variables
        .iter()
        .filter(|variable| variable.name() != entry.key);
    let variables = variables.map(|variable| match variable {
        Variable::Fills(name) => format!("`{name}` (fills)"),
        Variable::Overrides(name) => format!("`{name}` (overrides)"),
    });
    aliases.chain(variables).collect::<Vec<_>>().join(", ")
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_reference_is_up_to_date() {
        let committed = include_str!("../OPTIONS.md");
        assert!(
            committed == super::options_markdown(),
            "crates/sconce-config/OPTIONS.md is not what the table says; write it again with\n\
             cargo run -p sconce -- options > crates/sconce-config/OPTIONS.md"
        );
    }
}
