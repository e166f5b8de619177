//! The tables of architectures in the README, made from the lists in the program and the folders of `models/tiny` and
//! `models/tasks`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sconce_models::{ARCHS, HfConfig};
use sconce_testkit::golden::Golden;

const HEAD: &str = "| `architectures` in config.json | checked against transformers as |";

#[test]
fn the_readme_lists_every_architecture_with_its_tested_variants() {
    let mut variants: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for golden in Golden::all().expect("the goldens of models/tiny") {
        let config = HfConfig::read(&golden.dir).expect("a configuration");
        let arch = sconce_models::find(&config).expect("a known architecture");
        variants.entry(arch.names[0]).or_default().push(golden.name);
    }
    let row = |names: &[&str]| {
        let tested = variants.get(names[0]);
        let tested = tested.unwrap_or_else(|| panic!("{} has no folder in models/tiny", names[0]));
        format!("| {} | {} |", names.join(", "), tested.join(", "))
    };
    let rows: Vec<String> = ARCHS.iter().map(|arch| row(arch.names)).collect();
    let wanted = format!("{HEAD}\n| --- | --- |\n{}\n", rows.join("\n"));
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    assert!(
        readme.contains(&wanted),
        "the README lacks this table, to the letter:\n{wanted}"
    );
}

#[test]
fn the_readme_lists_every_family_of_encoders_with_its_tested_variants() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut variants: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let folders = fs::read_dir(root.join("models/tasks")).expect("the folders of tasks");
    let mut folders: Vec<_> = folders
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let config = HfConfig::read(folder).expect("a configuration");
        let found = sconce_models::find_encoder(&config).expect("readable");
        let name = folder.file_name().expect("a name").to_string_lossy();
        let family = found.expect("an encoder").0.family;
        variants.entry(family).or_default().push(name.into_owned());
    }
    let row = |family: &str| format!("| {family} | {} |", variants[family].join(", "));
    let rows: Vec<String> = sconce_models::ENCODERS
        .iter()
        .map(|arch| row(arch.family))
        .collect();
    let wanted = format!(
        "| family | checked against transformers as |\n| --- | --- |\n{}\n",
        rows.join("\n")
    );
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    assert!(
        readme.contains(&wanted),
        "the README lacks this table, to the letter:\n{wanted}"
    );
}

#[test]
fn the_readme_lists_every_encoder_decoder_with_its_tested_variants() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut variants: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let folders = fs::read_dir(root.join("models/seq2seq")).expect("the folders of texts");
    let mut folders: Vec<_> = folders
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let config = HfConfig::read(folder).expect("a configuration");
        let found = sconce_models::find_seq2seq(&config).expect("readable");
        let name = folder.file_name().expect("a name").to_string_lossy();
        let class = found.expect("an encoder-decoder").name;
        variants.entry(class).or_default().push(name.into_owned());
    }
    let rows: Vec<String> = sconce_models::SEQ2SEQS
        .iter()
        .map(|arch| format!("| {} | {} |", arch.name, variants[arch.name].join(", ")))
        .collect();
    let wanted = format!(
        "| `architectures` in config.json | checked against transformers as |\n| --- | --- |\n{}\n",
        rows.join("\n")
    );
    let readme = fs::read_to_string(root.join("README.md")).expect("the README");
    assert!(
        readme.contains(&wanted),
        "the README lacks this table, to the letter:\n{wanted}"
    );
}
