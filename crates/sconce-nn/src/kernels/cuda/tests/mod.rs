//! The CUDA kernels, tested without a GPU: compiled for the host, where every thread of a block is a fiber
//! (`host/emulation.h`), and compared with the plain twins of the layers. What this cannot show is what only a GPU has:
//! speed, limits, the rounding of its functions.

mod attends;
mod picks;
mod rows;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use half::{bf16, f16};
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    F32,
    F16,
    Bf16,
}

const TYPES: [Type; 3] = [Type::F32, Type::F16, Type::Bf16];

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    fn round(self, number: f32) -> f32 {
        match self {
            Self::F32 => number,
            Self::F16 => f16::from_f32(number).to_f32(),
            Self::Bf16 => bf16::from_f32(number).to_f32(),
        }
    }

    /// Half the distance of numbers around 1, with room for sums in another order.
    fn tolerance(self) -> f32 {
        match self {
            Self::F32 => 2e-5,
            Self::F16 => 1e-3,
            Self::Bf16 => 8e-3,
        }
    }

    fn rounded(self, numbers: &[f32]) -> Vec<f32> {
        numbers.iter().map(|&number| self.round(number)).collect()
    }

    #[track_caller]
    fn close(self, got: &[f32], want: &[f32], case: &str) {
        assert_eq!(got.len(), want.len(), "{case}");
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            let apart = (got - want).abs();
            let limit = self.tolerance() * want.abs().max(1.0);
            // Not `apart > limit`: what is no number must not pass.
            assert!(
                apart <= limit,
                "{case}, {}: {index} is {got}, not {want}",
                self.name()
            );
        }
    }
}

/// The kernels as a program of the host; `None`: there is no compiler here.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<(PathBuf, TempDir)>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/cuda/host/check.cpp");
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("check");
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-O2", "-Wall", "-Werror", "-o"]);
        let Ok(output) = compiler.arg(&program).arg(here).output() else {
            println!("skipped: no C++ compiler (c++)");
            return None;
        };
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{messages}");
        Some((program, dir))
    });
    built.as_ref().map(|(program, _)| program.as_path())
}

/// What a kernel is given: numbers or indices.
#[derive(Default)]
struct Input(Vec<u8>);

impl Input {
    fn numbers(self, numbers: &[f32]) -> Self {
        self.words(numbers.iter().map(|number| number.to_le_bytes()))
    }

    fn indices(self, indices: &[u32]) -> Self {
        self.words(indices.iter().map(|index| index.to_le_bytes()))
    }

    fn words(mut self, words: impl ExactSizeIterator<Item = [u8; 4]>) -> Self {
        self.0.extend((words.len() as u64).to_le_bytes());
        self.0.extend(words.flatten());
        self
    }

    /// The arrays that the kernel makes, as bits.
    fn run(&self, kernel: &str, dtype: Type, seed: u32) -> Option<Vec<Vec<u32>>> {
        let mut command = Command::new(program()?);
        command.args([kernel, dtype.name(), &seed.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(&self.0));
            child.wait_with_output().unwrap()
        });
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{kernel}: {messages}");
        let mut bytes = &*output.stdout;
        let mut arrays = Vec::new();
        while let Some((length, rest)) = bytes.split_at_checked(8) {
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let (words, rest) = rest.split_at(4 * length);
            let (words, _) = words.as_chunks::<4>();
            arrays.push(words.iter().map(|word| u32::from_le_bytes(*word)).collect());
            bytes = rest;
        }
        Some(arrays)
    }
}

fn floats(bits: &[u32]) -> Vec<f32> {
    bits.iter().map(|&bits| f32::from_bits(bits)).collect()
}
