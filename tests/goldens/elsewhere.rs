//! Checkpoints whose files have headers alone, while their numbers come from elsewhere: the same logits, and each rank
//! reads what it announced and no more than it keeps.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sconce_models::{GgufModel, HfConfig, LoadOptions, Quantisation, gguf, unpacked};
use sconce_nn::Solo;
use sconce_nn::weights::gguf::Gguf;
use sconce_nn::weights::{self, BlockFormat, Numbers, Part, StoredDtype, WeightSource};
use sconce_testkit::close::Tolerance;
use sconce_testkit::golden::Golden;
use tempfile::TempDir;

use super::player::{Player, on_ranks};
use super::{all, check};
use crate::support::copy_folder;

/// Files from which parts are read, and which parts were.
struct Distant {
    dir: PathBuf,
    expected: Mutex<Vec<Part>>,
    read: Mutex<Vec<Part>>,
}

impl Distant {
    fn of(dir: &Path) -> Arc<Self> {
        Arc::new(Self {
            dir: dir.into(),
            expected: Mutex::default(),
            read: Mutex::default(),
        })
    }

    /// Bytes that were read, which must be those that were announced.
    #[track_caller]
    fn bytes(&self, case: &str) -> u64 {
        let (read, expected) = (self.read.lock().unwrap(), self.expected.lock().unwrap());
        assert_eq!(*read, *expected, "{case}");
        let sizes = read.iter().map(|part| part.bytes.end - part.bytes.start);
        sizes.sum()
    }
}

impl Numbers for Distant {
    fn read(&self, part: &Part, target: &mut [u8], _: &dyn Fn()) -> Result<(), String> {
        self.read.lock().unwrap().push(part.clone());
        let file = File::open(self.dir.join(&*part.file)).map_err(|error| error.to_string())?;
        let read = file.read_exact_at(target, part.bytes.start);
        read.map_err(|error| error.to_string())
    }

    fn expect(&self, parts: Vec<Part>) {
        *self.expected.lock().unwrap() = parts;
    }
}

/// A copy of a folder with nothing but zeros behind the headers of its weights.
fn hollow(folder: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_folder(folder, dir.path());
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            let bytes = fs::read(&path).unwrap();
            let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
            empty(&path, &bytes, header..bytes.len());
        }
    }
    dir
}

fn empty(path: &Path, bytes: &[u8], numbers: Range<usize>) {
    let mut bytes = bytes.to_vec();
    assert!(bytes[numbers.clone()].iter().any(|&byte| byte != 0));
    bytes[numbers].fill(0);
    fs::write(path, bytes).unwrap();
}

fn origin(distant: &Arc<Distant>) -> Arc<dyn Numbers> {
    distant.clone()
}

#[test]
fn every_family_computes_the_same_from_elsewhere_on_one_rank_and_on_several() {
    for golden in all() {
        let headers = hollow(&golden.dir);
        let run = &golden.runs[3];
        let size = fs::metadata(golden.dir.join("model.safetensors"))
            .unwrap()
            .len();
        for world in [1, 2, 3, 6] {
            let results = on_ranks(world, |comm| {
                let distant = Distant::of(&golden.dir);
                let options = LoadOptions::default();
                let source = weights::open_elsewhere(headers.path(), &origin(&distant)).unwrap();
                let comm: Box<dyn sconce_nn::Communicator + Send> = match world {
                    1 => Box::new(Solo),
                    _ => Box::new(comm),
                };
                let mut player = Player::load(headers.path(), &*source, comm, &options).ok()?;
                Some((player.logits(&run.ids, &[run.ids.len()]), distant))
            });
            let Some(ranks) = results.into_iter().collect::<Option<Vec<_>>>() else {
                continue;
            };
            let case = format!("{} on {world} ranks", golden.name);
            let read: Vec<u64> = ranks
                .iter()
                .map(|(_, distant)| distant.bytes(&case))
                .collect();
            assert!(
                read.iter().all(|&bytes| bytes <= 2 * size),
                "{case}: {read:?}"
            );
            if golden.name == "llama" && world > 1 {
                assert!(
                    read.iter().all(|&bytes| bytes < size * 9 / 10),
                    "{case}: {read:?} of {size}"
                );
            }
            for (logits, _) in &ranks {
                check(&golden, &case, logits, &run.logits, Tolerance::F32);
            }
            if world == 1 {
                let want = Player::open(&golden.dir).logits(&run.ids, &[run.ids.len()]);
                check(&golden, &case, &ranks[0].0, &want, Tolerance::EXACT);
            }
        }
    }
}

#[test]
fn ranks_that_read_their_parts_from_elsewhere_compute_as_from_files() {
    let quantised = |format| LoadOptions {
        quantise: Some(Quantisation::Blocks(format)),
        ..LoadOptions::default()
    };
    let cases = [
        LoadOptions::default(),
        LoadOptions {
            in_huge_pages: true,
            ..LoadOptions::default()
        },
        LoadOptions {
            dtype: Some(StoredDtype::BF16),
            ..LoadOptions::default()
        },
        quantised(BlockFormat::Q8_0),
    ];
    for name in ["llama", "gpt2", "gpt_neox", "bloom", "mixtral"] {
        let Ok(golden) = Golden::tiny(name) else {
            panic!("there is no {name} in models/tiny");
        };
        let headers = hollow(&golden.dir);
        let run = &golden.runs[2];
        for (index, options) in cases.iter().enumerate() {
            let play = |folder: &Path, source: &dyn WeightSource, comm| {
                let mut player = Player::load(folder, source, Box::new(comm), options).ok()?;
                Some(player.logits(&run.ids, &[run.ids.len()]))
            };
            let far = on_ranks(2, |comm| {
                let distant = origin(&Distant::of(&golden.dir));
                let source = weights::open_elsewhere(headers.path(), &distant).unwrap();
                play(headers.path(), &*source, comm)
            });
            let near = on_ranks(2, |comm| {
                let source = weights::open(&golden.dir).unwrap();
                play(&golden.dir, &*source, comm)
            });
            assert!(far == near, "{name}, case {index}");
        }
    }
}

#[test]
fn other_formats_compute_the_same_from_elsewhere() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let ids: Vec<u32> = (1..20).collect();
    // Stacked experts, and blocks that a cut of two ranks goes through.
    for name in ["qwen2_moe", "llama"] {
        let dir = fixtures.join("gguf");
        let file = dir.join(name).with_extension("gguf");
        let logits = |open: &dyn Fn() -> Gguf| {
            let file = Arc::new(open());
            let model = GgufModel::read(&file).unwrap();
            let source = gguf::weights(file);
            let options = LoadOptions::default();
            let player = Player::of(model.arch, &model.spec, &source, Box::new(Solo), &options);
            player.unwrap().logits(&ids, &[ids.len()])
        };
        let headers = tempfile::tempdir().unwrap();
        let copy = headers.path().join(file.file_name().unwrap());
        let bytes = fs::read(&file).unwrap();
        let first = sconce_engine::header_end(&bytes, bytes.len() as u64)
            .unwrap()
            .unwrap() as usize;
        empty(&copy, &bytes, first.next_multiple_of(32)..bytes.len());
        let distant = Distant::of(&dir);
        let near = logits(&|| Gguf::open(&file).unwrap());
        let far = logits(&|| {
            Gguf::open(&copy)
                .unwrap()
                .elsewhere(headers.path(), &origin(&distant))
        });
        assert!(near == far, "{name}");
        assert!(distant.bytes(name) > 0);
    }
    let dir = fixtures.join("packed/awq");
    let logits = |folder: &Path, source: Box<dyn WeightSource>| {
        let config = HfConfig::read(folder).unwrap();
        let source = unpacked(&config, source.into()).unwrap();
        let player = Player::load(folder, &*source, Box::new(Solo), &LoadOptions::default());
        player.unwrap().logits(&ids, &[ids.len()])
    };
    let headers = hollow(&dir);
    let distant = origin(&Distant::of(&dir));
    let far = weights::open_elsewhere(headers.path(), &distant).unwrap();
    assert!(logits(&dir, weights::open(&dir).unwrap()) == logits(headers.path(), far));
}
