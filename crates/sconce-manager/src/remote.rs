//! A model elsewhere as a folder of headers: files of full length, with holes where the numbers
//! are. The readers of folders work on it unchanged, and some kilobytes stand for gigabytes.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use sconce_engine::header_end;
use tempfile::TempDir;

use crate::error::ManagerError;
use crate::torch_headers;
use crate::wanted::{Unclear, wanted_files};

/// Files that can be listed and read in parts.
pub(crate) trait Remote {
    /// All files below the place, with names relative to it.
    fn list(&self) -> Result<Vec<RemoteFile>, ManagerError>;

    /// These bytes of a file; fewer only where the file ends.
    fn read(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, ManagerError>;

    /// The place, for messages.
    fn describe(&self) -> String;

    /// That it cannot be told which of its files are the model, as a start from there says it.
    fn unclear(&self, unclear: Unclear, names: &[&str]) -> ManagerError;
}

/// A file that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteFile {
    /// Relative to the place, with slashes.
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
}

/// The longest safetensors header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// What is fetched of a safetensors file at once; most headers are shorter.
const FIRST_PART: u64 = 256 << 10;

/// What is fetched of a GGUF file at first, and twice as much each time that it is not enough: most
/// vocabularies are longer than one such part and shorter than four.
const FIRST_GGUF_PART: u64 = 4 << 20;

/// A folder of headers in the directory for temporary files. Its weights read as zeros. Fails where
/// a start would not know which GGUF file to fetch.
pub(crate) fn headers(
    remote: &dyn Remote,
    gguf_file: Option<&str>,
) -> Result<TempDir, ManagerError> {
    let files = remote.list()?;
    if files.is_empty() {
        return Err(ManagerError::Empty {
            place: remote.describe(),
        });
    }
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let wanted = match wanted_files(&names, gguf_file) {
        Ok(wanted) => Some(wanted),
        Err(Unclear::NoWeights) => None,
        Err(unclear) => return Err(remote.unclear(unclear, &names)),
    };
    let dir = tempfile::tempdir().map_err(|cause| ManagerError::temporary(&cause))?;
    for file in &files {
        let is_wanted = match &wanted {
            Some(wanted) => wanted.contains(&file.name.as_str()),
            // Whatever there is instead of weights is told by names.
            None => !file.name.contains('/'),
        };
        if is_wanted {
            lay_out(remote, file, dir.path())?;
        }
    }
    Ok(dir)
}

/// Writes one file: whole if it is text, else with its headers alone.
fn lay_out(remote: &dyn Remote, file: &RemoteFile, dir: &Path) -> Result<(), ManagerError> {
    let read = |range: Range<u64>| remote.read(&file.name, range);
    let parts = if file.name.ends_with(".safetensors") {
        safetensors_header(file.size, &read)?
    } else if file.name.ends_with(".bin") {
        torch_headers::parts(file.size, &read)?
    } else if file.name.ends_with(".gguf") {
        gguf_header(file.size, &read)?
    } else if is_text(&file.name) {
        vec![(0, read(0..file.size)?)]
    } else {
        vec![]
    };
    let write = || {
        let path = dir.join(&file.name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let mut copy = File::create(path)?;
        for (at, bytes) in &parts {
            copy.seek(SeekFrom::Start(*at))?;
            copy.write_all(bytes)?;
        }
        copy.set_len(file.size)
    };
    write().map_err(|cause| ManagerError::temporary(&cause))
}

fn is_text(name: &str) -> bool {
    [".jinja", ".json", ".txt", ".model", ".properties"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// A part of a file: where it begins, and its bytes.
pub(crate) type Part = (u64, Vec<u8>);

/// Reads bytes of one file.
pub(crate) type Read<'a> = dyn Fn(Range<u64>) -> Result<Vec<u8>, ManagerError> + 'a;

/// Keys with the vocabulary, and the descriptions of tensors. Nothing states their length: more is
/// fetched until it is enough. What makes no sense is left to the reader of the folder.
fn gguf_header(size: u64, read: &Read) -> Result<Vec<Part>, ManagerError> {
    let mut beginning = Vec::new();
    let mut end = FIRST_GGUF_PART.min(size);
    loop {
        beginning.append(&mut read(beginning.len() as u64..end)?);
        match header_end(&beginning, size) {
            Ok(None) if end < size => end = end.saturating_mul(2).min(size),
            _ => return Ok(vec![(0, beginning)]),
        }
    }
}

/// The length before the header, and the header. A length that makes no sense is left to the
/// reader of the folder.
fn safetensors_header(size: u64, read: &Read) -> Result<Vec<Part>, ManagerError> {
    let first = read(0..size.min(FIRST_PART))?;
    let Some(length) = first.first_chunk().copied().map(u64::from_le_bytes) else {
        return Ok(vec![(0, first)]);
    };
    let end = size.min(8 + length.min(MAX_HEADER));
    let mut parts = vec![(0, first)];
    if end > FIRST_PART {
        parts.push((FIRST_PART, read(FIRST_PART..end)?));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use sconce_engine::Description;

    /// Files in memory; counts the bytes that are read.
    struct Fake {
        files: BTreeMap<String, Vec<u8>>,
        read: Cell<u64>,
    }

    impl Fake {
        fn of(folder: &str, files: &[(&str, &str)]) -> Self {
            let mut all = BTreeMap::new();
            let root: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../.."].iter().collect();
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                all.insert(name, std::fs::read(path).unwrap());
            }
            for (name, from) in files {
                all.insert((*name).into(), std::fs::read(root.join(from)).unwrap());
            }
            Self {
                files: all,
                read: Cell::new(0),
            }
        }
    }

    impl Remote for Fake {
        fn list(&self) -> Result<Vec<RemoteFile>, ManagerError> {
            let file = |(name, bytes): (&String, &Vec<u8>)| RemoteFile {
                name: name.clone(),
                size: bytes.len() as u64,
            };
            Ok(self.files.iter().map(file).collect())
        }

        fn read(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, ManagerError> {
            self.read.set(self.read.get() + range.end - range.start);
            Ok(self.files[name][range.start as usize..range.end as usize].to_vec())
        }

        fn describe(&self) -> String {
            "nowhere".into()
        }

        fn unclear(&self, unclear: Unclear, _: &[&str]) -> ManagerError {
            ManagerError::Temporary {
                cause: unclear.to_string(),
            }
        }
    }

    #[test]
    fn a_folder_of_headers_is_described_like_the_model_itself() {
        let remote = Fake::of("models/tiny/llama", &[]);
        let dir = headers(&remote, None).unwrap();
        let here: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../models/tiny/llama"]
            .iter()
            .collect();
        let (copy, own) = (
            Description::read(dir.path(), None, false),
            Description::read(&here, None, false),
        );
        assert!(copy.problems().is_empty());
        assert_eq!(copy.overview(), own.overview());
        let (copy, own) = (copy.stored().unwrap(), own.stored().unwrap());
        assert_eq!((copy.parameters, copy.bytes), (own.parameters, own.bytes));
        assert!(!dir.path().join("golden.safetensors").exists());
    }

    #[test]
    fn torch_files_are_described_by_their_directory_and_pickle() {
        let mut remote = Fake::of(
            "models/tiny/llama",
            &[(
                "pytorch_model.bin",
                "tests/fixtures/bins/llama/one/pytorch_model.bin",
            )],
        );
        remote.files.remove("model.safetensors");
        let dir = headers(&remote, None).unwrap();
        let copy = Description::read(dir.path(), None, false);
        assert!(copy.problems().is_empty(), "{:?}", copy.problems());
        let whole = tempfile::tempdir().unwrap();
        for (name, bytes) in &remote.files {
            std::fs::write(whole.path().join(name), bytes).unwrap();
        }
        let own = Description::read(whole.path(), None, false)
            .stored()
            .unwrap();
        let copy = copy.stored().unwrap();
        assert_eq!((copy.parameters, copy.bytes), (own.parameters, own.bytes));
    }

    #[test]
    fn gguf_files_are_described_by_what_stands_before_their_numbers() {
        let from = "tests/fixtures/gguf/qwen2_moe.gguf";
        let mut remote = Fake::of("models/tiny/llama", &[("m.gguf", from)]);
        let other = ["config.json", "model.safetensors", "tokenizer.json"];
        remote
            .files
            .retain(|name, _| !other.contains(&name.as_str()));
        let file = remote.files.get_mut("m.gguf").unwrap();
        // Longer than what is fetched at first, of which the header is a part.
        file.resize(32 << 20, 0);
        let dir = headers(&remote, Some("m.gguf")).unwrap();
        assert!(remote.read.get() < 5 << 20, "{}", remote.read.get());
        let copy = Description::read(dir.path(), None, false);
        assert!(copy.problems().is_empty(), "{:?}", copy.problems());
        let overview = copy.overview().unwrap();
        assert_eq!(overview.architecture, "Qwen2MoeForCausalLM");
        let refused = |named| headers(&remote, named).unwrap_err().to_string();
        let text = refused(Some("other.gguf"));
        assert!(text.contains("no file other.gguf"), "{text}");
        assert!(text.contains("files there: m.gguf"), "{text}");
        let file = remote.files["m.gguf"].clone();
        remote.files.insert("n.gguf".into(), file);
        remote.read.set(0);
        let text = headers(&remote, None).unwrap_err().to_string();
        assert!(
            text.contains("several GGUF files, m.gguf, n.gguf"),
            "{text}"
        );
        assert_eq!(remote.read.get(), 0, "none of them is read");
        let dir = headers(&remote, Some("n.gguf")).unwrap();
        assert!(remote.read.get() < 5 << 20, "{}", remote.read.get());
        assert!(!dir.path().join("m.gguf").exists());
    }

    #[test]
    fn little_is_read_of_large_weights() {
        let mut remote = Fake::of("models/tiny/llama", &[]);
        let file = remote.files.get_mut("model.safetensors").unwrap();
        let length = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
        let text = String::from_utf8(file[8..8 + length].to_vec()).unwrap();
        // One tensor more, of 64 MiB.
        let end = file.len() - 8 - length;
        let more = format!(
            r#"{{"more":{{"dtype":"F32","shape":[16777216],"data_offsets":[{end},{}]}},"#,
            end + (64 << 20)
        );
        let text = text.trim_end().replacen('{', &more, 1);
        let mut longer = (text.len() as u64).to_le_bytes().to_vec();
        longer.extend(text.as_bytes());
        longer.extend(&file[8 + length..]);
        longer.resize(longer.len() + (64 << 20), 1);
        *file = longer;
        let dir = headers(&remote, None).unwrap();
        assert!(remote.read.get() < 1 << 20, "{}", remote.read.get());
        let stored = Description::read(dir.path(), None, false).stored().unwrap();
        assert!(stored.parameters > 16 << 20);
    }

    #[test]
    fn a_place_without_files_is_named() {
        let remote = Fake {
            files: BTreeMap::new(),
            read: Cell::new(0),
        };
        let error = headers(&remote, None).unwrap_err();
        assert_eq!(error.code(), "empty-prefix");
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
