//! The table of architectures in the README, made from the list in the program and the folders of `models/tiny`.

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
