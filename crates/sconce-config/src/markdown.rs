//! The reference of all options, made from the table.

use crate::entry::{Entry, Scope, Variable};
use crate::options::options;

const HEAD: &str = "# Options

<!-- Made by `sconce options` from the table in src/options/; do not edit. -->

Precedence, from weak to strong: default, `config.properties`, variables marked *fills*,
`SERVING_*` and `OPTION_*`, `serving.properties`, variables marked *overrides*, the command line.
An unknown key ends the start with exit code 64 and the nearest known key;
`SCONCE_STRICT=warn` makes it a warning. `sconce explain KEY` tells all of this of one key.

Keys that begin with `option.` are read without it too, as the handlers of DJL Serving do. Releases
are those of DJL Serving that read the key; nothing there: all since before 0.21.
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
        text.push_str("\n\n| Key | Also | Value | Default | Releases | Meaning |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for entry in options().filter(|entry| entry.scope == scope) {
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
    let (bold, rest) = entry.status.told();
    let bold = if bold.is_empty() {
        bold
    } else {
        format!(" **{bold}**")
    };
    format!(
        "| `{}` | {} | {} | {default} | {} | {}{bold}{} |\n",
        entry.key,
        others(entry),
        entry.kind,
        entry.releases(),
        cell(entry.doc),
        cell(&rest),
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
