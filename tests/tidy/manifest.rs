//! The lines of a `Cargo.toml` that the rules ask for: keys by section. Reads the plain style in
//! which this workspace's manifests are written, not all of TOML.

/// One manifest.
pub(super) struct Manifest {
    /// Path from the repository's root.
    pub(super) path: String,
    /// The crate's name, which is its folder's name too.
    pub(super) name: String,
    entries: Vec<Entry>,
}

/// `key = value` within a section.
pub(super) struct Entry {
    section: String,
    /// The first part of a dotted key.
    pub(super) key: String,
    value: String,
    pub(super) line: usize,
}

impl Manifest {
    pub(super) fn new(path: impl Into<String>, text: &str) -> Self {
        let path = path.into();
        let folder = path.rsplit('/').nth(1).unwrap_or("");
        let mut entries = Vec::new();
        let mut section = String::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(header) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = header.trim_matches(['[', ']']).to_owned();
                // `[dependencies.name]` is an entry of `[dependencies]`.
                if let Some((before, name)) = section.rsplit_once('.')
                    && before.ends_with("dependencies")
                {
                    entries.push(Entry::new(before, name, "", at + 1));
                }
            } else if let Some((key, value)) = line.split_once('=')
                && !line.starts_with('#')
            {
                entries.push(Entry::new(&section, key, value, at + 1));
            }
        }
        let name = folder.to_owned();
        Self {
            path,
            name,
            entries,
        }
    }

    /// What the crate needs to be built, on whatever target.
    pub(super) fn dependencies(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| {
            let kind = entry.section.rsplit('.').next().unwrap_or("");
            matches!(kind, "dependencies" | "build-dependencies")
        })
    }

    /// What only its tests need.
    pub(super) fn dev_dependencies(&self) -> impl Iterator<Item = &Entry> {
        let kind = |entry: &&Entry| entry.section.ends_with("dev-dependencies");
        self.entries.iter().filter(kind)
    }

    /// The value of a key, quotes removed.
    pub(super) fn value(&self, section: &str, key: &str) -> Option<&str> {
        let entries = self.entries.iter();
        let mut found = entries.filter(|entry| entry.section == section && entry.key == key);
        found.next().map(|entry| entry.value.as_str())
    }
}

impl Entry {
    fn new(section: &str, key: &str, value: &str, line: usize) -> Self {
        let key = key
            .split('.')
            .next()
            .unwrap_or(key)
            .trim()
            .trim_matches('"');
        Self {
            section: section.to_owned(),
            key: key.to_owned(),
            value: value.trim().trim_matches('"').to_owned(),
            line,
        }
    }
}

mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_their_sections() {
        let text = "[package]\nname = \"a\" \ndescription = \"x = y\"\n[dependencies]\nb.workspace = true\n# c = 1\n\"d\" = { version = \"1\" }\n[target.'cfg(unix)'.dependencies]\ne = \"1\"\n[dependencies.f]\nversion = \"1\"\n[dev-dependencies]\ng = \"1\"\n";
        let manifest = Manifest::new("crates/a/Cargo.toml", text);
        let keys: Vec<_> = manifest
            .dependencies()
            .map(|e| (e.key.as_str(), e.line))
            .collect();
        assert_eq!(keys, [("b", 5), ("d", 7), ("e", 9), ("f", 10)]);
        let keys: Vec<_> = manifest
            .dev_dependencies()
            .map(|e| e.key.as_str())
            .collect();
        assert_eq!(keys, ["g"]);
        assert_eq!(manifest.value("package", "description"), Some("x = y"));
        assert_eq!(manifest.name, "a");
    }
}
