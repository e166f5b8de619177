//! Reads files written by the real `torch.save` (`tests/fixtures/torch/make.py`) and compares with what torch read back.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;
use crate::weights::buffer::AlignedBytes;
use crate::weights::{WeightSource, checkpoint};

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/torch"
    ))
    .join(name)
}

fn bytes_of(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap()
}

fn read_bytes(bytes: &[u8]) -> Result<Contents, WeightError> {
    let mut owned = AlignedBytes::zeroed(bytes.len());
    owned.bytes_mut().copy_from_slice(bytes);
    read(
        Path::new("pytorch_model.bin"),
        &Arc::new(Buffer::Owned(owned)),
    )
}

fn refusal(name: &str) -> String {
    read_bytes(&bytes_of(name)).unwrap_err().to_string()
}

/// Compares all tensors of a source with the expected ones under `prefix`: types, shapes and bytes.
fn assert_as_expected(prefix: &str, source: &dyn WeightSource) {
    let expected = bytes_of("expected.safetensors");
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let wanted: Vec<_> = expected
        .iter()
        .filter_map(|(name, view)| {
            Some((
                name.strip_prefix(prefix)?.strip_prefix('/')?.to_owned(),
                view,
            ))
        })
        .collect();
    let mut names: Vec<_> = wanted.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    assert_eq!(source.names(), names, "{prefix}");
    for (name, view) in wanted {
        let tensor = source.get(&name).unwrap().copied().unwrap();
        assert_eq!(tensor.shape(), view.shape(), "{prefix}/{name}");
        assert_eq!(
            dtype_in_safetensors(tensor.dtype()),
            format!("{:?}", view.dtype()),
            "{prefix}/{name}"
        );
        assert_eq!(
            tensor.run(0, tensor.elements()),
            view.data(),
            "{prefix}/{name}"
        );
    }
}

fn dtype_in_safetensors(dtype: crate::weights::StoredDtype) -> String {
    format!("{dtype:?}").to_uppercase()
}

#[test]
fn files_of_torch_save_are_read_as_torch_reads_them() {
    for name in [
        "dtypes",
        "protocol3",
        "protocol4",
        "protocol5",
        "views",
        "module",
        "parameters",
        "annotated",
        "nested",
        "unsigned",
        "unaligned",
    ] {
        let path = fixture(&format!("{name}.bin"));
        let source = checkpoint::Checkpoint::read(path.clone(), Format::Torch, vec![path]).unwrap();
        assert_as_expected(name, &source);
    }
}

#[test]
fn shards_are_read_through_their_index() {
    let source = crate::weights::open(&fixture("sharded")).unwrap();
    assert_as_expected("sharded", source.as_ref());
    assert!(
        source
            .describe()
            .ends_with("pytorch_model.bin.index.json with 2 shards")
    );
    assert_eq!(source.total_bytes(), 102);
}

#[test]
fn shared_storages_stay_shared() {
    let contents = read_bytes(&bytes_of("module.bin")).unwrap();
    let place = |name: &str| match &contents[name] {
        Stored::Tensor(tensor) => tensor.row_bytes(0).as_ptr(),
        Stored::Unsupported(_) => unreachable!(),
    };
    assert_eq!(place("0.weight"), place("tied.weight"));
}

#[test]
fn code_is_refused_by_name_and_never_run() {
    let message = refusal("evil.bin");
    assert!(
        message.contains("`posix.system`") && message.contains("never executes pickles"),
        "{message}"
    );
    assert!(
        message.starts_with("pytorch_model.bin: its pickle at byte "),
        "{message}"
    );
    assert!(refusal("whole_module.bin").contains("`torch.nn.modules.container.Sequential`"));
    assert!(refusal("sparse.bin").contains("`torch._utils._rebuild_sparse_tensor`"));
}

#[test]
fn other_contents_are_refused_with_what_they_are() {
    for (name, part) in [
        ("legacy.bin", "old format"),
        ("list.bin", "a dict of tensors is needed, not a list"),
        (
            "complex.bin",
            "`torch.ComplexFloatStorage`, which is not supported",
        ),
        (
            "float8.bin",
            "`torch.float8_e4m3fn`, which is not supported",
        ),
        ("two_models.bin", "tensors under each of the keys `a`, `b`"),
        ("compressed.bin", "compressed"),
        ("big_endian.bin", "`big` byte order"),
        ("expected.safetensors", "does not begin like a zip archive"),
    ] {
        let message = refusal(name);
        assert!(message.contains(part), "{name}: {message}");
    }
}

#[test]
fn every_prefix_of_a_file_is_an_error() {
    for name in ["views.bin", "protocol4.bin"] {
        let bytes = bytes_of(name);
        for end in 0..bytes.len() {
            assert!(read_bytes(&bytes[..end]).is_err(), "{name} cut at {end}");
        }
    }
}

#[test]
fn a_view_that_leaves_its_storage_is_refused_though_the_file_goes_on() {
    let mut bytes = bytes_of("annotated.bin");
    // The pickled strides (2, 1) and the memo place of their tuple.
    let strides = bytes
        .windows(7)
        .position(|seen| seen == b"K\x02K\x01\x86q\x0a")
        .unwrap();
    bytes[strides + 1] = 3;
    let message = read_bytes(&bytes).unwrap_err().to_string();
    assert!(
        message.contains("tensor `weight`")
            && message.contains("leave the 16 bytes of its storage"),
        "{message}"
    );
    bytes[strides + 1] = 0;
    assert!(read_bytes(&bytes).is_ok());
}

/// Uses everything of a file that was accepted, so that a bad view would show.
fn touch(contents: &Contents) {
    for stored in contents.values() {
        if let Stored::Tensor(tensor) = stored {
            assert_eq!(tensor.to_vec_f32().unwrap().len(), tensor.elements());
        }
    }
}

proptest! {
    #[test]
    fn changed_files_never_panic(
        name in prop::sample::select(vec!["views.bin", "nested.bin", "dtypes.bin", "unsigned.bin"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        in_pickle: bool,
    ) {
        let mut bytes = bytes_of(name);
        // Most of a file is padding; half of the runs change the pickle, which begins after the first header.
        let span = if in_pickle { 64..800 } else { 0..bytes.len() };
        for (place, value) in changes {
            bytes[span.start + place.index(span.len())] = value;
        }
        if let Ok(contents) = read_bytes(&bytes) {
            touch(&contents);
        }
    }
}
