//! Files written byte by byte: what is read of good ones, and what is said of bad ones. Files that gguf-py wrote are
//! read in the workspace's own tests.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::weights::dtype::StoredDtype;

/// A file in the making.
#[derive(Clone)]
struct Writer {
    version: u32,
    keys: Vec<Vec<u8>>,
    infos: Vec<Vec<u8>>,
    data: Vec<u8>,
}

const U32: u32 = 4;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(name), &kind.to_le_bytes()[..], value].concat()
}

fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

fn info(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend((dims.len() as u32).to_le_bytes());
    bytes.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

impl Writer {
    fn sample() -> Self {
        let tokens = ["<s>", "a", "▁b"].map(text).concat();
        let numbers = [0.5f32, -1.0, 2.0, 3.0, 4.0, 5.0];
        Self {
            version: 3,
            keys: vec![
                key("general.architecture", TEXT, &text("llama")),
                key("llama.block_count", U32, &2u32.to_le_bytes()),
                key("llama.eps", F32, &1e-5f32.to_le_bytes()),
                key("flag", BOOL, &[1]),
                key("tokens", ARRAY, &array(TEXT, 3, &tokens)),
                key(
                    "types",
                    ARRAY,
                    &array(5, 2, &[1, 0, 0, 0, 255, 255, 255, 255]),
                ),
            ],
            infos: vec![info("matrix", &[3, 2], 0, 0), info("vector", &[2], 1, 32)],
            data: {
                let mut data = numbers.map(f32::to_le_bytes).concat();
                data.resize(32, 0);
                data.extend([0x00, 0x3c, 0x00, 0xc0]);
                data
            },
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.infos.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.infos.concat());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }

    fn key(mut self, name: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.push(key(name, kind, value));
        self
    }

    fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        self.infos.push(info(name, dims, kind, offset));
        self
    }
}

fn write(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn open(bytes: &[u8]) -> Result<Gguf, WeightError> {
    let (_dir, path) = write(bytes);
    Gguf::open(&path)
}

#[track_caller]
fn refused(bytes: &[u8], part: &str) {
    let message = open(bytes).unwrap_err().to_string();
    assert!(
        message.contains("model.gguf") && message.contains(part),
        "{message}"
    );
}

#[test]
fn keys_and_tensors_are_read_in_place() {
    for version in [2, 3] {
        let file = open(
            &Writer {
                version,
                ..Writer::sample()
            }
            .bytes(),
        )
        .unwrap();
        let keys = file.metadata();
        assert_eq!(keys.text("general.architecture").unwrap(), Some("llama"));
        assert_eq!(keys.whole("llama.block_count").unwrap(), Some(2));
        // The decimal that was meant, not the nearest single precision number of it.
        assert_eq!(keys.number("llama.eps").unwrap(), Some(1e-5));
        assert_eq!(keys.flag("flag").unwrap(), Some(true));
        assert_eq!(keys.flag("absent").unwrap(), None);
        let tokens: Vec<&str> = keys.texts("tokens").unwrap().unwrap().collect();
        assert_eq!(tokens, ["<s>", "a", "▁b"]);
        let types: Vec<f64> = keys.numbers("types").unwrap().unwrap().collect();
        assert_eq!(types, [1.0, -1.0]);
        assert_eq!(file.names(), ["matrix", "vector"]);
        let matrix = file.get("matrix").unwrap();
        assert_eq!(
            (matrix.dtype(), matrix.shape()),
            (StoredDtype::F32, &[2, 3][..])
        );
        assert!(!matrix.is_owned());
        assert_eq!(
            matrix.to_vec_f32().unwrap(),
            [0.5, -1.0, 2.0, 3.0, 4.0, 5.0]
        );
        let vector = file.get("vector").unwrap();
        assert_eq!(vector.dtype(), StoredDtype::F16);
        assert_eq!(vector.to_vec_f32().unwrap(), [1.0, -2.0]);
        assert_eq!(file.total_bytes(), 28);
    }
}

#[test]
fn values_of_another_kind_are_refused_by_key_and_value() {
    let file = open(&Writer::sample().bytes()).unwrap();
    let keys = file.metadata();
    for (message, part) in [
        (
            keys.text("llama.block_count").unwrap_err(),
            "`llama.block_count` is 2, but must be a string",
        ),
        (
            keys.whole("general.architecture").unwrap_err(),
            "is \"llama\", but must be a whole number",
        ),
        (
            keys.whole("llama.eps").unwrap_err(),
            "is 0.00001, but must be a whole number",
        ),
        (
            keys.number("flag").unwrap_err(),
            "is true, but must be a finite number",
        ),
        (
            keys.flag("tokens").unwrap_err(),
            "is an array of 3 strings, but must be true or false",
        ),
        (
            keys.numbers("tokens").map(|_| ()).unwrap_err(),
            "must be an array of numbers",
        ),
        (
            keys.texts("types").map(|_| ()).unwrap_err(),
            "an array of 2 signed numbers, but must be",
        ),
    ] {
        let message = message.to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn foreign_beginnings_are_told_apart() {
    let good = Writer::sample().bytes();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    refused(
        &with(0, b"GGML"),
        "its first bytes are \"GGML\", not \"GGUF\"",
    );
    refused(
        &with(4, &1u32.to_le_bytes()),
        "version 1, which was given up",
    );
    refused(
        &with(4, &4u32.to_le_bytes()),
        "version 4, but versions 2 and 3 are read",
    );
    refused(
        &with(4, &3u32.to_be_bytes()),
        "big-endian, which is not read",
    );
    refused(b"", "it is empty");
    refused(b"GG", "cut short: 4 bytes expected, 2 found");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n";
    refused(pointer, "git lfs pull");
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let good = Writer::sample().bytes();
    for end in 0..good.len() {
        let error = open(&good[..end]).unwrap_err();
        assert!(
            matches!(
                error,
                WeightError::Truncated { .. } | WeightError::Malformed { .. }
            ),
            "cut at {end}: {error}"
        );
    }
    refused(
        &good[..good.len() - 1],
        &format!("{} bytes expected, {} found", good.len(), good.len() - 1),
    );
}

#[test]
fn absurd_counts_and_lengths_are_refused_before_anything_is_allocated() {
    let good = Writer::sample().bytes();
    let huge = u64::MAX.to_le_bytes();
    for (at, part) in [(8, "tensors"), (16, "keys")] {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&huge);
        refused(
            &bytes,
            &format!("it announces {} {part}, but the", u64::MAX),
        );
    }
    let sample = || Writer::sample();
    refused(
        &sample().key("k", ARRAY, &array(TEXT, 1 << 40, &[])).bytes(),
        "announces 1099511627776 elements of `k`, which are strings, but the",
    );
    refused(
        &sample()
            .key("k", ARRAY, &array(ARRAY, 1 << 60, &[]))
            .bytes(),
        "elements of `k`, which are arrays",
    );
    refused(
        &sample().key("k", TEXT, &huge).bytes(),
        "the value of `k` at byte",
    );
    let nested = (0..5).fold(array(0, 0, &[]), |inner, _| array(ARRAY, 1, &inner));
    refused(
        &sample().key("k", ARRAY, &nested).bytes(),
        "arrays within arrays, more than 4 deep",
    );
    refused(
        &sample().tensor("t", &[1 << 40, 1 << 40], 0, 64).bytes(),
        "`t` has more numbers than can be counted",
    );
    refused(
        &sample().tensor("t", &[1, 1, 1, 1, 1], 0, 64).bytes(),
        "`t` has 5 dimensions, the limit is 4",
    );
    let far = u64::MAX - 31;
    assert!(matches!(
        open(&sample().tensor("t", &[4], 0, far).bytes()).unwrap_err(),
        WeightError::Truncated {
            expected: u64::MAX,
            ..
        }
    ));
}

#[test]
fn contradictions_are_named() {
    let sample = || Writer::sample();
    refused(
        &sample().key("flag", BOOL, &[0]).bytes(),
        "it has the key `flag` twice",
    );
    refused(
        &sample().tensor("vector", &[1], 0, 0).bytes(),
        "it has the tensor `vector` twice",
    );
    refused(
        &sample().key("k", 13, &[0]).bytes(),
        "`k` has a value of type 13, but types are from 0 to 12",
    );
    refused(
        &sample().key("k", ARRAY, &array(77, 1, &[0])).bytes(),
        "`k` has a value of type 77",
    );
    refused(&sample().key("k", BOOL, &[2]).bytes(), "a flag of value 2");
    refused(
        &sample().key("k", ARRAY, &array(BOOL, 2, &[1, 3])).bytes(),
        "a flag of value 3",
    );
    let not_text = [&1u64.to_le_bytes()[..], &[0xff]].concat();
    refused(&sample().key("k", TEXT, &not_text).bytes(), "is not UTF-8");
    refused(
        &sample().tensor("t", &[1], 0, 8).bytes(),
        "`t` begins at 8, which is no multiple of the alignment 32",
    );
    refused(
        &sample()
            .key("general.alignment", U32, &24u32.to_le_bytes())
            .bytes(),
        "`general.alignment` is 24, but must be a power of two",
    );
    refused(
        &sample().tensor("t", &[33], 8, 0).bytes(),
        "`t` has rows of 33 numbers, but a block of q8_0 has 32",
    );
    refused(
        &sample().key("split.count", 2, &3u16.to_le_bytes()).bytes(),
        "`split.count` is 3, but must be what the file's name says",
    );
}

#[test]
fn types_without_a_reader_are_an_error_for_who_asks() {
    let file = open(&Writer::sample().tensor("t", &[256], 17, 0).bytes()).unwrap();
    let message = file.get("t").unwrap_err().to_string();
    assert!(
        message.contains("stored as iq2_xs (ggml's type 17; "),
        "{message}"
    );
    assert!(file.get("matrix").is_ok());
    let file = open(&Writer::sample().tensor("t", &[256], 1234, 0).bytes()).unwrap();
    let message = file.get("t").unwrap_err().to_string();
    assert!(
        message.contains("ggml's type 1234, which has no name here"),
        "{message}"
    );
}

#[test]
fn a_set_of_files_is_one_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let part = |number: u16, name: &str| {
        let mut part = Writer::sample();
        part.infos.truncate(1);
        part.infos[0] = info(name, &[3, 2], 0, 0);
        let split = |key: &str, value: u16| (key.to_owned(), value.to_le_bytes());
        for (key, value) in [split("split.no", number), split("split.count", 2)] {
            part = part.key(&key, 2, &value);
        }
        let path = dir
            .path()
            .join(format!("m-{:05}-of-00002.gguf", number + 1));
        fs::write(&path, part.bytes()).unwrap();
        path
    };
    let first = part(0, "a");
    let missing = Gguf::open(&first).unwrap_err();
    assert!(
        matches!(&missing, WeightError::MissingShards { missing, .. } if missing == &["m-00002-of-00002.gguf"])
    );
    let second = part(1, "b");
    let file = Gguf::open(&first).unwrap();
    assert_eq!(file.names(), ["a", "b"]);
    assert!(file.describe().ends_with("with 2 shards"));
    let message = Gguf::open(&second).unwrap_err().to_string();
    assert!(
        message.contains("name the first one, m-00001-of-00002.gguf"),
        "{message}"
    );
    fs::rename(part(0, "c"), &second).unwrap();
    let message = Gguf::open(&first).map(|_| ()).unwrap_err().to_string();
    assert!(
        message.contains("m-00001-of-00002.gguf") || message.contains("`split.no` is 0"),
        "{message}"
    );
}

#[test]
fn the_end_of_a_header_is_told_from_a_beginning_that_has_it() {
    let bytes = Writer::sample().bytes();
    let total = bytes.len() as u64;
    let end = header_end(&bytes, total).unwrap().expect("all is there");
    assert!(end < total);
    for len in 0..bytes.len() {
        let found = header_end(&bytes[..len], total).unwrap();
        assert_eq!(found, (len as u64 >= end).then_some(end), "{len} bytes");
    }
    assert!(header_end(b"GGML and more", 100).is_err());
    assert!(header_end(&bytes[..30], 30).is_err());
}

/// Thousands of files with changed, missing and repeated bytes, from a generator with a seed: each is read or refused,
/// and what is read can be used.
#[test]
fn changed_files_never_panic() {
    let good = Writer::sample()
        .tensor("quantised", &[32, 1], 8, 0)
        .key(
            "nested",
            ARRAY,
            &array(ARRAY, 1, &array(U32, 1, &[1, 0, 0, 0])),
        )
        .bytes();
    let mut random = fastrand::Rng::with_seed(7);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let (mut read, mut refused) = (0, 0);
    for _ in 0..2500 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] ^= 1 << random.u8(..8),
                1 => bytes[at] = random.u8(..),
                2 if bytes.len() > 9 => bytes.truncate(at.max(8)),
                _ => {
                    let word = random
                        .choice([0, 1, u64::MAX, 1 << 31, 1 << 40])
                        .unwrap_or(0);
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].copy_from_slice(&word.to_le_bytes()[..end - at]);
                }
            }
        }
        fs::write(&path, &bytes).unwrap();
        let Ok(file) = Gguf::open(&path) else {
            refused += 1;
            continue;
        };
        read += 1;
        let _ = file
            .metadata()
            .texts("tokens")
            .map(|tokens| tokens.map(Iterator::count));
        for name in file.names() {
            if let Ok(tensor) = file.get(&name)
                && let Ok(numbers) = tensor.to_vec_f32()
            {
                assert_eq!(numbers.len(), tensor.elements());
            }
        }
    }
    assert!(
        read > 100 && refused > 100,
        "{read} were read, {refused} refused"
    );
}
