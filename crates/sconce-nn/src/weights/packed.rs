//! Matrices that AWQ or GPTQ packed into integers, presented as the weights they stand for: `….weight` in place of
//! `….qweight`, `….qzeros`, `….scales` and `….g_idx`. Where groups fill blocks of 32, the integers go into blocks as they
//! are; else they become numbers, as f16. A matrix is unpacked when it is copied, so each rank unpacks the part that it
//! keeps. What `config.json` calls the packing is left to `sconce-models`.

mod levels;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use half::f16;

use super::WeightSource;
use super::block_format::BlockFormat;
use super::buffer::{self, Compute};
use super::dtype::StoredDtype;
use super::error::WeightError;
use super::host_tensor::HostTensor;
use crate::kernels::cpu::{parallel, pool};
use crate::pulse;
use levels::{Levels, Order};

/// Numbers in a block of the formats that matrices are unpacked to.
const BLOCK: usize = 32;

/// Elementary operations for each number, for deciding about a fork.
const COST: usize = 8;

/// The tensors of a packed matrix beside `qweight`.
const PARTS: [&str; 4] = ["qweight", "qzeros", "scales", "g_idx"];

/// How matrices are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// By which tool.
    pub kind: PackedKind,
    /// Bits of a number: 4, or 8 for GPTQ.
    pub bits: usize,
    /// Inputs that share a scale; `None`: all.
    pub group: Option<usize>,
    /// Whether every zero is the middle level.
    pub symmetric: bool,
}

/// The orders in which integers are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedKind {
    /// AutoAWQ's `gemm`: outputs share a word, interleaved.
    Awq,
    /// AutoGPTQ's: inputs share a word.
    Gptq {
        /// Whether inputs are in groups by their importance, as `g_idx` says.
        act_order: bool,
        /// Whether zeros are stored less one: `checkpoint_format` is `gptq`, not `gptq_v2`.
        less_one: bool,
    },
}

/// A checkpoint with its matrices unpacked.
pub struct Unpacked {
    source: Arc<dyn WeightSource>,
    packed: Packed,
    /// By the name before `.qweight`.
    matrices: BTreeMap<String, Matrix>,
    names: Vec<String>,
    /// Biases that are zero.
    zeros: BTreeSet<String>,
    bytes: u64,
}

/// What a packed matrix is unpacked to.
#[derive(Clone, Copy)]
struct Matrix {
    outputs: usize,
    inputs: usize,
    group: usize,
    dtype: StoredDtype,
}

impl Unpacked {
    /// Checks the shapes of all packed matrices.
    pub fn new(source: Arc<dyn WeightSource>, packed: Packed) -> Result<Self, WeightError> {
        let mut matrices = BTreeMap::new();
        let all = source.names();
        for name in all.iter().filter_map(|name| name.strip_suffix(".qweight")) {
            matrices.insert(name.to_owned(), Matrix::read(&*source, name, &packed)?);
        }
        if matrices.is_empty() {
            return Err(WeightError::NotPacked {
                origin: source.describe(),
            });
        }
        let belongs = |name: &&String| {
            let (matrix, part) = name.rsplit_once('.').unwrap_or_default();
            matrices.contains_key(matrix) && (PARTS.contains(&part) || part == "bias")
        };
        let mut names: Vec<String> = all.iter().filter(|name| !belongs(name)).cloned().collect();
        let mut zeros = BTreeSet::new();
        for matrix in matrices.keys() {
            names.push(format!("{matrix}.weight"));
            let bias = format!("{matrix}.bias");
            if all.binary_search(&bias).is_err() {
                continue;
            }
            // AutoGPTQ gives every layer a bias; where the model has none, it is zero and needs no place.
            if source.get(&bias)?.to_vec_f32()?.iter().any(|&x| x != 0.0) {
                names.push(bias);
            } else {
                zeros.insert(bias);
            }
        }
        names.sort();
        let mut unpacked = Self {
            source,
            packed,
            matrices,
            names,
            zeros,
            bytes: 0,
        };
        for name in &unpacked.names {
            unpacked.bytes += unpacked.outline(name)?.byte_len() as u64;
        }
        Ok(unpacked)
    }

    fn matrix<'n>(&self, name: &'n str) -> Option<(&'n str, &Matrix)> {
        let matrix = name.strip_suffix(".weight")?;
        Some((matrix, self.matrices.get(matrix)?))
    }

    fn unpack(&self, name: &str, matrix: &Matrix) -> Result<HostTensor, WeightError> {
        let tensor = |part: &str| self.source.get(&format!("{name}.{part}"));
        let order = match self.packed.kind {
            PackedKind::Awq => Order::Outputs,
            PackedKind::Gptq { .. } => Order::Inputs,
        };
        let less_one = matches!(self.packed.kind, PackedKind::Gptq { less_one: true, .. });
        let (words, zeros) = (
            tensor("qweight")?.in_order()?,
            tensor("qzeros")?.in_order()?,
        );
        let groups = match self.source.get(&format!("{name}.g_idx")) {
            Ok(groups) => Some(groups.in_order()?),
            Err(WeightError::NoTensor { .. }) => None,
            Err(error) => return Err(error),
        };
        let parts = Parts {
            words,
            zeros,
            scales: tensor("scales")?.to_vec_f32()?,
            groups,
            order,
            bits: self.packed.bits,
            less_one,
            matrix: *matrix,
        };
        parts
            .levels()?
            .check(matrix.inputs, matrix.dtype)
            .map_err(|problem| WeightError::Packed {
                name: name.to_owned(),
                origin: self.source.describe(),
                problem,
            })?;
        let shape = [matrix.outputs, matrix.inputs];
        HostTensor::computed(Box::new(parts), matrix.dtype, shape)
    }
}

/// What a matrix is unpacked from.
struct Parts {
    words: HostTensor,
    zeros: HostTensor,
    scales: Vec<f32>,
    groups: Option<HostTensor>,
    order: Order,
    bits: usize,
    less_one: bool,
    matrix: Matrix,
}

impl Parts {
    /// Fails unless the tensors have the types that [`Matrix::read`] has seen.
    fn levels(&self) -> Result<Levels<'_>, WeightError> {
        let groups = self.groups.as_ref();
        Ok(Levels {
            words: self.words.numbers()?,
            zeros: self.zeros.numbers()?,
            scales: &self.scales,
            groups: groups.map(HostTensor::numbers).transpose()?,
            order: self.order,
            bits: self.bits,
            less_one: self.less_one,
            outputs: self.matrix.outputs,
            group: self.matrix.group,
        })
    }
}

impl Compute for Parts {
    /// On all threads of the pool.
    fn write(&self, rows: Range<usize>, columns: Range<usize>, target: &mut [u8]) {
        let levels = self
            .levels()
            .expect("types that were seen when it was made");
        let (dtype, width) = (self.matrix.dtype, columns.len());
        let row_bytes = dtype.bytes(width);
        if rows.is_empty() || width == 0 {
            return;
        }
        let (_, run) = parallel::cut(rows.len(), width * COST);
        let parts: Vec<_> = target.chunks_mut(run * row_bytes).map(Mutex::new).collect();
        pool::run(parts.len(), &|task| {
            let mut out = parts[task].lock().expect("each part has one task");
            let outputs = rows.start + task * run..;
            for (output, out) in outputs.zip(out.chunks_exact_mut(row_bytes)) {
                match dtype {
                    StoredDtype::Quantised(format) => {
                        levels.write_blocks(output, columns.start, format, out);
                    }
                    _ => {
                        let numbers = buffer::cast_mut::<f16>(out);
                        let numbers = numbers.expect("rows of whole numbers");
                        levels.write_numbers(output, columns.start, numbers);
                    }
                }
                pulse::beat();
            }
        });
    }

    fn give_back(&self) {
        self.words.give_back_pages();
    }
}

impl WeightSource for Unpacked {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        match self.matrix(name) {
            Some((name, matrix)) => self.unpack(name, matrix),
            None => self.source.get(name),
        }
    }

    fn outline(&self, name: &str) -> Result<HostTensor, WeightError> {
        match self.matrix(name) {
            Some((_, matrix)) => {
                HostTensor::outline_of_copy(matrix.dtype, vec![matrix.outputs, matrix.inputs])
            }
            None => self.source.outline(name),
        }
    }

    fn has_unlisted(&self, name: &str) -> bool {
        self.zeros.contains(name)
    }

    /// Both tools transpose the layers of GPT-2 before they pack them.
    fn has_outputs_as_rows(&self, name: &str) -> bool {
        self.matrix(name).is_some()
    }

    fn total_bytes(&self) -> u64 {
        self.bytes
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}

impl Matrix {
    /// Reads the shapes, which must agree with each other and with what is said of the packing.
    fn read(source: &dyn WeightSource, name: &str, packed: &Packed) -> Result<Self, WeightError> {
        let wrong = |part: &str, problem: String| WeightError::Packed {
            name: format!("{name}.{part}"),
            origin: source.describe(),
            problem,
        };
        let shape = |part: &str, dtypes: &[StoredDtype]| {
            let tensor = source.outline(&format!("{name}.{part}"))?;
            if !dtypes.contains(&tensor.dtype()) {
                return Err(wrong(part, format!("it is stored as {}", tensor.dtype())));
            }
            match *tensor.shape() {
                [rows, columns] => Ok([rows, columns]),
                _ => Err(wrong(
                    part,
                    format!("it has shape {:?}, not rows and columns", tensor.shape()),
                )),
            }
        };
        let words = [StoredDtype::I32];
        let floats = [StoredDtype::F16, StoredDtype::BF16, StoredDtype::F32];
        let per_word = 32 / packed.bits;
        let found = shape("qweight", &words)?;
        let [_, outputs] = shape("scales", &floats)?;
        let inputs = match packed.kind {
            PackedKind::Awq => found[0],
            PackedKind::Gptq { .. } => found[0].saturating_mul(per_word),
        };
        let group = packed.group.unwrap_or(inputs).max(1);
        let groups = inputs.div_ceil(group);
        let wanted = match packed.kind {
            PackedKind::Awq => [inputs, outputs / per_word],
            PackedKind::Gptq { .. } => [inputs / per_word, outputs],
        };
        for (part, dtypes, wanted) in [
            ("qweight", &words[..], wanted),
            ("qzeros", &words, [groups, outputs / per_word]),
            ("scales", &floats, [groups, outputs]),
        ] {
            let found = shape(part, dtypes)?;
            if found != wanted || outputs % per_word != 0 {
                return Err(wrong(
                    part,
                    format!(
                        "it has shape {found:?} where {inputs} inputs in groups of {group} and {outputs} outputs of \
                         {} bits need {wanted:?}: config.json's quantization_config is of another checkpoint",
                        packed.bits
                    ),
                ));
            }
        }
        let in_order = match packed.kind {
            PackedKind::Gptq {
                act_order: true, ..
            } => {
                let groups = source.get(&format!("{name}.g_idx"))?.in_order()?;
                levels::in_order(groups.numbers()?, group)
            }
            _ => true,
        };
        let blocks = in_order && group.is_multiple_of(BLOCK) && inputs.is_multiple_of(BLOCK);
        let dtype = match (blocks, packed.bits, packed.symmetric) {
            (true, 4, true) => StoredDtype::Quantised(BlockFormat::Q4_0),
            (true, 4, false) => StoredDtype::Quantised(BlockFormat::Q4_1),
            (true, 8, true) => StoredDtype::Quantised(BlockFormat::Q8_0),
            _ => StoredDtype::F16,
        };
        Ok(Self {
            outputs,
            inputs,
            group,
            dtype,
        })
    }
}

#[cfg(test)]
mod tests;
