//! The rules, as functions from files to complaints. Each complaint begins with `file:line`.
//! What they hold against this repository stands in `tidy.rs`.

use super::manifest::Manifest;
use super::source::{Source, has_word};

/// A word of code that only some crates may use.
pub(super) struct Owned {
    pub(super) words: &'static [&'static str],
    /// Crates that may; a path below `crates/` narrows it to a part of one.
    pub(super) owners: &'static [&'static str],
    /// Whether tests are bound by it too.
    pub(super) tests_too: bool,
    pub(super) why: &'static str,
}

/// A dependency edge that the drawing of the workspace does not have.
pub(super) fn edges(manifest: &Manifest, allowed: &[(&str, &[&str])]) -> Vec<String> {
    let Some((_, below)) = allowed.iter().find(|(name, _)| *name == manifest.name) else {
        let path = &manifest.path;
        return vec![format!(
            "{path}:1: a new crate; give it a line in tests/tidy.rs"
        )];
    };
    let ours = |name: &str| name.starts_with("sconce");
    let within = |name: &str| name == "sconce-core" || below.contains(&name);
    // The program's tests see everything; other crates' tests see what they test, and fakes.
    let in_tests =
        |name: &str| manifest.name == "sconce" || name == "sconce-testkit" || within(name);
    let wrong = manifest
        .dependencies()
        .filter(|e| ours(&e.key) && !within(&e.key));
    let dev = manifest.dev_dependencies();
    let wrong_in_tests = dev.filter(|e| ours(&e.key) && !in_tests(&e.key));
    wrong
        .chain(wrong_in_tests)
        .map(|edge| {
            let place = format!("{}:{}", manifest.path, edge.line);
            format!("{place}: {} must not depend on {}", manifest.name, edge.key)
        })
        .collect()
}

/// A library in a crate that is not one of its owners.
pub(super) fn libraries(manifest: &Manifest, table: &[(&str, &[&str])]) -> Vec<String> {
    let mut found = Vec::new();
    for (library, owners) in table {
        let used = manifest.dependencies().find(|entry| entry.key == *library);
        if let Some(entry) = used
            && !owners.contains(&manifest.name.as_str())
        {
            let place = format!("{}:{}", manifest.path, entry.line);
            found.push(format!(
                "{place}: {library} belongs to {}",
                owners.join(", ")
            ));
        }
    }
    found
}

/// A manifest without a description, or without the workspace's lints.
pub(super) fn manifest_basics(manifest: &Manifest) -> Vec<String> {
    let mut found = Vec::new();
    if manifest
        .value("package", "description")
        .is_none_or(str::is_empty)
    {
        found.push(format!(
            "{}:1: the package has no description",
            manifest.path
        ));
    }
    if manifest.value("package", "name") != Some(&manifest.name) {
        found.push(format!(
            "{}:1: the folder is not named as the package",
            manifest.path
        ));
    }
    if manifest.value("lints", "workspace") != Some("true") {
        found.push(format!(
            "{}:1: [lints] workspace = true is missing",
            manifest.path
        ));
    }
    found
}

/// A word of code outside its owners.
pub(super) fn owned(source: &Source, rule: &Owned) -> Vec<String> {
    let inside = source.path.strip_prefix("crates/").unwrap_or("");
    let owns = |owner: &str| {
        inside
            .strip_prefix(owner)
            .is_some_and(|r| r.starts_with('/'))
    };
    if rule.owners.iter().any(|owner| owns(owner)) {
        return Vec::new();
    }
    let lines = source.lines_with(rule.words).into_iter();
    lines
        .filter(|(line, _)| rule.tests_too || !source.is_test(*line))
        .map(|(line, word)| {
            let owners = rule.owners.join(", ");
            format!(
                "{}:{line}: `{word}` belongs to {owners}: {}",
                source.path, rule.why
            )
        })
        .collect()
}

/// The name of a model class outside the folder of architectures: generic code never asks which
/// model it runs.
pub(super) fn architecture_names(source: &Source, folder: &str) -> Vec<String> {
    const ENDINGS: [&str; 7] = [
        "ForCausalLM",
        "LMHeadModel",
        "ForConditionalGeneration",
        "ForSequenceClassification",
        "ForTokenClassification",
        "ForQuestionAnswering",
        "ForMaskedLM",
    ];
    let names = |text: &str| {
        ENDINGS.iter().any(|ending| {
            let at = text.find(ending);
            let before = at.and_then(|at| text[..at].chars().next_back());
            before.is_some_and(char::is_alphanumeric)
        })
    };
    let strings = source
        .strings
        .iter()
        .filter(|_| !source.path.starts_with(folder));
    strings
        .filter(|(line, text)| !source.is_test(*line) && names(text))
        .map(|(line, text)| {
            format!(
                "{}:{line}: {text}: architectures are named in {folder} only",
                source.path
            )
        })
        .collect()
}

/// A file whose first line does not say what it is for.
pub(super) fn header(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or("");
    if first.starts_with("//! ") && first.len() > "//! ".len() {
        return Vec::new();
    }
    vec![format!(
        "{}:1: begin with `//!` and what the file is for",
        source.path
    )]
}

/// A file that is too long to be read in one go.
pub(super) fn file_length(source: &Source, limit: usize) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= limit {
        return Vec::new();
    }
    vec![format!(
        "{}:{limit}: {lines} lines; the limit is {limit}: split it",
        source.path
    )]
}

/// Functions that are too long to be understood at a glance.
pub(super) fn function_length(source: &Source, limit: usize) -> Vec<String> {
    let long = source.functions().into_iter().filter(|f| f.lines > limit);
    long.map(|f| {
        let (path, line, name, lines) = (&source.path, f.line, f.name, f.lines);
        format!("{path}:{line}: `{name}` has {lines} lines; the limit is {limit}: split it")
    })
    .collect()
}

/// Marks of unfinished work: macros in code, words anywhere.
pub(super) fn unfinished(source: &Source) -> Vec<String> {
    const MACROS: [&str; 4] = ["todo!", "unimplemented!", "dbg!", concat!("#[", "ignore")];
    const WORDS: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];
    let code = source.lines_with(&MACROS).into_iter();
    let lines = source.text.lines().enumerate();
    let words = lines.filter_map(|(at, line)| {
        let word = WORDS.iter().find(|word| has_word(line, word))?;
        Some((at + 1, (*word).to_owned()))
    });
    code.chain(words)
        .map(|(line, word)| format!("{}:{line}: `{word}`: finish it or delete it", source.path))
        .collect()
}

/// Tabs, spaces at line ends, a missing newline at the end.
pub(super) fn whitespace(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.contains('\t') {
            found.push(format!("{path}:{}: a tab", at + 1));
        }
        if line.trim_end() != line {
            found.push(format!("{path}:{}: white space at the end", at + 1));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        found.push(format!(
            "{path}:{}: no newline at the end",
            text.lines().count()
        ));
    }
    found
}

/// Entries of the top level that the layout does not have.
pub(super) fn top_level<'a>(names: impl Iterator<Item = &'a str>, allowed: &[&str]) -> Vec<String> {
    names
        .filter(|name| !name.starts_with('.') && !allowed.contains(name))
        .map(|name| format!("{name}:1: does not belong at the top level"))
        .collect()
}

/// The value that so many of a hundred do not exceed.
pub(super) fn percentile(mut values: Vec<usize>, percent: usize) -> usize {
    values.sort_unstable();
    let at = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or(0)
}

mod tests {
    use super::*;

    const EDGES: &[(&str, &[&str])] = &[("sconce-a", &["sconce-b"]), ("sconce", &[])];

    fn edges_of(name: &str, text: &str) -> Vec<String> {
        edges(
            &Manifest::new(format!("crates/{name}/Cargo.toml"), text),
            EDGES,
        )
    }

    #[test]
    fn edges_outside_the_drawing_are_found() {
        let fine = "[dependencies]\nsconce-core = 1\nsconce-b = 1\nserde = 1\n[dev-dependencies]\nsconce-testkit = 1\n";
        assert!(edges_of("sconce-a", fine).is_empty());
        let found = edges_of("sconce-a", "[dependencies]\nsconce-c.workspace = true\n");
        assert_eq!(
            found,
            ["crates/sconce-a/Cargo.toml:2: sconce-a must not depend on sconce-c"]
        );
        assert_eq!(
            edges_of("sconce-a", "[dependencies]\nsconce-testkit = 1\n").len(),
            1
        );
        assert_eq!(
            edges_of("sconce-a", "[dev-dependencies]\nsconce-c = 1\n").len(),
            1
        );
        assert!(edges_of("sconce", "[dev-dependencies]\nsconce-c = 1\n").is_empty());
        assert_eq!(edges_of("sconce-new", "").len(), 1);
    }

    #[test]
    fn libraries_outside_their_owners_are_found() {
        let manifest = Manifest::new("crates/sconce-a/Cargo.toml", "[dependencies]\ntokio = 1\n");
        assert!(libraries(&manifest, &[("tokio", &["sconce-a"])]).is_empty());
        assert_eq!(libraries(&manifest, &[("tokio", &["sconce-b"])]).len(), 1);
    }

    #[test]
    fn bare_manifests_are_found() {
        let fine = "[package]\nname = \"a\"\ndescription = \"It.\"\n[lints]\nworkspace = true\n";
        assert!(manifest_basics(&Manifest::new("crates/a/Cargo.toml", fine)).is_empty());
        assert_eq!(
            manifest_basics(&Manifest::new("crates/b/Cargo.toml", "[package]\n")).len(),
            3
        );
    }

    const ENVIRONMENT: Owned = Owned {
        words: &["std::env"],
        owners: &["a", "b/src/part"],
        tests_too: false,
        why: "",
    };

    #[test]
    fn words_outside_their_owners_are_found() {
        let text = "fn f() { std::env::var(\"X\"); }\n#[cfg(test)]\nmod tests { use std::env; }\n";
        let found = |path: &str, rule: &Owned| owned(&Source::new(path, text), rule).len();
        assert_eq!(found("crates/a/src/x.rs", &ENVIRONMENT), 0);
        assert_eq!(found("crates/b/src/part/x.rs", &ENVIRONMENT), 0);
        assert_eq!(found("crates/b/src/x.rs", &ENVIRONMENT), 1);
        assert_eq!(found("crates/ab/src/x.rs", &ENVIRONMENT), 1);
        assert_eq!(found("tests/x.rs", &ENVIRONMENT), 0);
        let strict = Owned {
            tests_too: true,
            ..ENVIRONMENT
        };
        assert_eq!(found("tests/x.rs", &strict), 2);
    }

    #[test]
    fn architecture_names_outside_their_folder_are_found() {
        let text = "//! LlamaForCausalLM\nfn f(x: &str) -> bool { x == \"LlamaForCausalLM\" }\nfn g(x: &str) -> bool { x.ends_with(\"ForCausalLM\") }\n";
        let found = |path: &str| architecture_names(&Source::new(path, text), "crates/m/arch/");
        assert_eq!(found("crates/m/arch/llama.rs").len(), 0);
        assert_eq!(found("crates/m/load.rs").len(), 1);
        assert!(found("crates/m/load.rs")[0].starts_with("crates/m/load.rs:2: "));
    }

    #[test]
    fn headers_and_sizes_are_checked() {
        assert!(header(&Source::new("a.rs", "//! Adds numbers.\n")).is_empty());
        for text in [
            "",
            "//! \n",
            "use x;\n//! Late.\n",
            "/// Of the next item.\n",
        ] {
            assert_eq!(header(&Source::new("a.rs", text)).len(), 1, "{text:?}");
        }
        let source = Source::new("a.rs", "fn a() {\n1;\n}\n");
        assert!(file_length(&source, 3).is_empty() && function_length(&source, 3).is_empty());
        assert_eq!(file_length(&source, 2).len(), 1);
        assert_eq!(
            function_length(&source, 2),
            ["a.rs:1: `a` has 3 lines; the limit is 2: split it"]
        );
        assert_eq!(percentile((1..=10).collect(), 90), 9);
    }

    #[test]
    fn unfinished_work_is_found() {
        let text = format!(
            "// {}: later\nfn f() {{ todo!{} }}\n",
            concat!("FIX", "ME"),
            "()"
        );
        assert_eq!(unfinished(&Source::new("a.rs", text)).len(), 2);
        let fine = "/// Says `dbg!` and EXXXTRA in words.\nfn todo() { f(\"todo!\") }\n";
        assert!(unfinished(&Source::new("a.rs", fine)).is_empty());
    }

    #[test]
    fn white_space_and_strangers_are_found() {
        assert!(whitespace("a", "x\ny\n").is_empty());
        assert_eq!(
            whitespace("a", "x \n\ty"),
            [
                "a:1: white space at the end",
                "a:2: a tab",
                "a:2: no newline at the end",
            ]
        );
        let names = ["crates", ".git", "notes.txt"].into_iter();
        let found = top_level(names, &["crates"]);
        assert_eq!(found, ["notes.txt:1: does not belong at the top level"]);
    }
}
