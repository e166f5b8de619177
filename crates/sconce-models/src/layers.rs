//! Makes layers of the tensors of a checkpoint, by their full names: what loading encoders and encoder-decoders have in
//! common. Which tensors a model has, and of which shapes, is theirs.

use std::ops::Range;

use candle_core::Device;
use sconce_nn::weights::{Arena, HostTensor, Matrix, StoredDtype};
use sconce_nn::{Conv2d, ConvShape, Embedding, GroupNorm, Linear, Norm};

use crate::decoder::{
    Affine, Footprint, LoadError, LoadOptions, NormKind, Tally, Tensors, holding,
};

/// A checkpoint that is being turned into layers.
pub(crate) struct Layers<'a> {
    pub(crate) tensors: Tensors<'a>,
    pub(crate) footprint: Footprint,
    options: LoadOptions,
    arena: Option<Arena>,
    tally: Tally,
}

/// What a matrix is for, which says whether it is quantised where that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A layer's, or the embedding.
    Layer,
    /// The output projection, or an embedding that one is tied to.
    Head,
    /// It stays as it is: tables of positions, heads of tasks.
    Whole,
}

/// The part of a matrix that a rank keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
    /// Whether it adds the bias: where columns are cut, results are sums of all ranks', and one adds it.
    pub(crate) bias: bool,
    /// So many such parts make the whole.
    pub(crate) of: usize,
}

impl Part {
    /// All of a matrix of that shape.
    pub(crate) fn whole([rows, columns]: [usize; 2]) -> Self {
        Self {
            rows: 0..rows,
            columns: 0..columns,
            bias: true,
            of: 1,
        }
    }
}

/// What was kept of a checkpoint.
pub(crate) struct Kept {
    pub(crate) footprint: Footprint,
    /// What was quantised, if that was asked for.
    pub(crate) tally: Tally,
}

/// What is said of a tensor that is missing or has another shape.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    /// The keys of `config.json` that decide its shape.
    pub(crate) keys: &'static str,
    /// What could be the reason that it is missing.
    pub(crate) hint: &'static str,
}

impl<'a> Layers<'a> {
    pub(crate) fn new(tensors: Tensors<'a>, options: LoadOptions) -> Self {
        Self {
            tensors,
            footprint: Footprint::default(),
            options,
            arena: options.in_huge_pages.then(Arena::default),
            tally: Tally::default(),
        }
    }

    /// What is left of the checkpoint, and what was kept of it.
    pub(crate) fn finish(self) -> (Tensors<'a>, Kept) {
        let kept = Kept {
            footprint: self.footprint,
            tally: self.tally,
        };
        (self.tensors, kept)
    }

    /// The embedding of tokens, which no head is tied to.
    pub(crate) fn embedding(
        &mut self,
        name: &str,
        shape: [usize; 2],
        expected: Expected,
    ) -> Result<Embedding, LoadError> {
        self.embedding_part(name, shape, Part::whole(shape), expected)
    }

    /// A rank's rows of it; those of others are zeros, so that sums over ranks are rows.
    pub(crate) fn embedding_part(
        &mut self,
        name: &str,
        shape: [usize; 2],
        part: Part,
        expected: Expected,
    ) -> Result<Embedding, LoadError> {
        let first = part.rows.start;
        let rows = self.rows(name, shape, part, Role::Layer, expected)?;
        Embedding::new(rows, first, &Device::Cpu).map_err(|cause| refused(name, cause))
    }

    /// A table of rows.
    pub(crate) fn table(
        &mut self,
        name: &str,
        shape: [usize; 2],
        expected: Expected,
    ) -> Result<Embedding, LoadError> {
        self.table_from(name, shape, 0, expected)
    }

    /// A table of the rows from `first` on.
    pub(crate) fn table_from(
        &mut self,
        name: &str,
        shape: [usize; 2],
        first: usize,
        expected: Expected,
    ) -> Result<Embedding, LoadError> {
        let rows = self.rows(name, shape, Part::whole(shape), Role::Whole, expected)?;
        let rows = rows.narrow(0, first, shape[0] - first)?;
        Embedding::new(rows, 0, &Device::Cpu).map_err(|cause| refused(name, cause))
    }

    fn rows(
        &mut self,
        name: &str,
        shape: [usize; 2],
        part: Part,
        role: Role,
        expected: Expected,
    ) -> Result<HostTensor, LoadError> {
        let weight = self.taken(name, "weight", &shape, expected)?;
        let weight = cut(weight, &part)?;
        let wanted = self.wanted(name, &weight, role)?;
        let rows = match &mut self.arena {
            Some(arena) => arena.hold(&weight, wanted)?,
            None => weight.to_dtype(wanted)?.packed()?,
        };
        self.tensors.touch(&rows, part.of);
        self.counted(&weight, &rows, role, part.of);
        self.footprint.add_table(&rows);
        Ok(rows)
    }

    /// A table of rows, and its matrix for a head that is tied to it.
    pub(crate) fn tied_table(
        &mut self,
        name: &str,
        shape: [usize; 2],
        expected: Expected,
    ) -> Result<(Embedding, Matrix), LoadError> {
        self.tied_part(name, shape, Part::whole(shape), expected)
    }

    /// A rank's rows of both.
    pub(crate) fn tied_part(
        &mut self,
        name: &str,
        shape: [usize; 2],
        part: Part,
        expected: Expected,
    ) -> Result<(Embedding, Matrix), LoadError> {
        let first = part.rows.start;
        let matrix = self.matrix(name, shape, part, Role::Head, expected)?;
        let table = Embedding::of(matrix.clone(), first, &Device::Cpu);
        Ok((table.map_err(|cause| refused(name, cause))?, matrix))
    }

    /// A rank's part of a matrix that is multiplied with.
    pub(crate) fn matrix(
        &mut self,
        name: &str,
        shape: [usize; 2],
        part: Part,
        role: Role,
        expected: Expected,
    ) -> Result<Matrix, LoadError> {
        let weight = self.taken(name, "weight", &shape, expected)?;
        let of = part.of;
        self.kept(name, &cut(weight, &part)?, role, of)
    }

    /// A table as numbers.
    pub(crate) fn numbers(
        &mut self,
        name: &str,
        shape: [usize; 2],
        expected: Expected,
    ) -> Result<Vec<f32>, LoadError> {
        let weight = self.taken(name, "weight", &shape, expected)?;
        self.tensors.touch(&weight, 1);
        self.footprint.add_as_f32(&weight);
        Ok(weight.to_vec_f32()?)
    }

    /// A linear layer.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        shape: [usize; 2],
        bias: bool,
        role: Role,
        expected: Expected,
    ) -> Result<Linear, LoadError> {
        self.linear_part(name, (shape, Part::whole(shape)), bias, role, expected)
    }

    /// A rank's part of a linear layer of that shape.
    pub(crate) fn linear_part(
        &mut self,
        name: &str,
        (shape, part): ([usize; 2], Part),
        bias: bool,
        role: Role,
        expected: Expected,
    ) -> Result<Linear, LoadError> {
        let Part {
            rows, bias: adds, ..
        } = part.clone();
        let weight = self.matrix(name, shape, part, role, expected)?;
        // What this rank does not add is read all the same, or it would be left over.
        let bias = self.bias(name, bias, shape[0], expected)?.filter(|_| adds);
        let bias = bias.map(|bias| bias.narrow(0, rows.start, rows.len()));
        self.made(name, weight, bias.transpose()?)
    }

    /// Several linear layers whose rows lie in one tensor.
    pub(crate) fn stacked<const N: usize>(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        bias: bool,
        expected: Expected,
    ) -> Result<[Linear; N], LoadError> {
        let weight = self.taken(name, "weight", &[N * rows, columns], expected)?;
        let bias = self.bias(name, bias, N * rows, expected)?;
        let parts = (0..N).map(|part| {
            let weight = self.kept(name, &weight.narrow(0, part * rows, rows)?, Role::Layer, 1)?;
            let bias = bias.as_ref().map(|bias| bias.narrow(0, part * rows, rows));
            self.made(name, weight, bias.transpose()?)
        });
        let parts: Vec<Linear> = parts.collect::<Result<_, LoadError>>()?;
        Ok(parts.try_into().expect("one for each part"))
    }

    /// A linear layer that may be stored as a convolution of single pixels.
    pub(crate) fn pointwise(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        expected: Expected,
    ) -> Result<Linear, LoadError> {
        let full = format!("{name}.weight");
        let weight = self.tensors.take(&full, expected.hint)?;
        let places = vec![1; weight.shape().len().saturating_sub(2)];
        let wanted = [vec![rows, columns], places].concat();
        require(&full, &weight, &wanted, expected.keys)?;
        let weight = self.kept(name, &weight.channels_last()?, Role::Whole, 1)?;
        let bias = self.bias(name, true, rows, expected)?;
        self.made(name, weight, bias)
    }

    /// A convolution from so many channels to so many.
    pub(crate) fn conv(
        &mut self,
        name: &str,
        [inputs, outputs]: [usize; 2],
        (shape, bias): (ConvShape, bool),
        expected: Expected,
    ) -> Result<Conv2d, LoadError> {
        let wanted = [outputs, inputs, shape.kernel, shape.kernel];
        let weight = self.taken(name, "weight", &wanted, expected)?;
        let weight = self.kept(name, &weight.channels_last()?, Role::Whole, 1)?;
        let bias = self.bias(name, bias, outputs, expected)?;
        let conv = Conv2d::new(weight, bias, shape).map_err(|cause| refused(name, cause))?;
        Ok(match self.options.dtype {
            Some(StoredDtype::BF16) => conv.with_bf16_products(),
            _ => conv,
        })
    }

    /// A norm over groups of channels.
    pub(crate) fn group_norm(
        &mut self,
        name: &str,
        (groups, eps): (usize, f64),
        channels: usize,
        expected: Expected,
    ) -> Result<GroupNorm, LoadError> {
        let weight = self.taken(name, "weight", &[channels], expected)?;
        let bias = self.taken(name, "bias", &[channels], expected)?;
        self.footprint.add_as_f32(&weight);
        self.footprint.add_as_f32(&bias);
        GroupNorm::new(&weight, &bias, groups, eps).map_err(|cause| refused(name, cause))
    }

    /// A tensor of that full name and shape as numbers.
    pub(crate) fn values(
        &mut self,
        name: &str,
        wanted: &[usize],
        expected: Expected,
    ) -> Result<Vec<f32>, LoadError> {
        let found = self.tensors.take(name, expected.hint)?;
        require(
            self.tensors.name_in_file(name),
            &found,
            wanted,
            expected.keys,
        )?;
        self.footprint.add_as_f32(&found);
        Ok(found.to_vec_f32()?)
    }

    /// A norm.
    pub(crate) fn norm(
        &mut self,
        name: &str,
        kind: NormKind,
        width: usize,
        expected: Expected,
    ) -> Result<Norm, LoadError> {
        let mut part = |part: &str| {
            let found = self.taken(name, part, &[width], expected)?;
            self.footprint.add_as_f32(&found);
            Ok::<_, LoadError>(found)
        };
        let norm = match kind {
            NormKind::Layer { eps, affine } => {
                let weight = part("weight")?;
                let bias = match affine {
                    Affine::Full => Some(part("bias")?),
                    _ => None,
                };
                Norm::layer(weight, bias, eps)
            }
            NormKind::Rms { eps, .. } => Norm::rms(part("weight")?, eps),
        };
        norm.map_err(|cause| refused(name, cause))
    }

    /// The layer of a matrix; `name` is for messages.
    pub(crate) fn made(
        &self,
        name: &str,
        weight: Matrix,
        bias: Option<HostTensor>,
    ) -> Result<Linear, LoadError> {
        let linear =
            Linear::of(weight, bias, &Device::Cpu).map_err(|cause| refused(name, cause))?;
        Ok(match self.options.dtype {
            Some(StoredDtype::BF16) => linear.with_bf16_products(),
            _ => linear,
        })
    }

    /// A tensor of that shape.
    pub(crate) fn taken(
        &mut self,
        name: &str,
        part: &str,
        wanted: &[usize],
        expected: Expected,
    ) -> Result<HostTensor, LoadError> {
        let full = format!("{name}.{part}");
        let found = self.tensors.take(&full, expected.hint)?;
        require(
            self.tensors.name_in_file(&full),
            &found,
            wanted,
            expected.keys,
        )?;
        Ok(found)
    }

    pub(crate) fn bias(
        &mut self,
        name: &str,
        wanted: bool,
        rows: usize,
        expected: Expected,
    ) -> Result<Option<HostTensor>, LoadError> {
        if !wanted {
            return Ok(None);
        }
        let bias = self.taken(name, "bias", &[rows], expected)?;
        self.footprint.add_as_f32(&bias);
        Ok(Some(bias))
    }

    /// The weight as it is multiplied with, in the type that it is computed from, all its pages in memory; `name` is for
    /// messages.
    pub(crate) fn kept(
        &mut self,
        name: &str,
        weight: &HostTensor,
        role: Role,
        parts: usize,
    ) -> Result<Matrix, LoadError> {
        let wanted = self.wanted(name, weight, role)?;
        let matrix = match &mut self.arena {
            Some(arena) => arena.hold_matrix(weight, wanted)?,
            None => Matrix::of(weight, wanted)?,
        };
        match matrix.rows() {
            Some(rows) => self.tensors.touch(rows, parts),
            // Every word was just written.
            None => self.tensors.report(matrix.storage().byte_len(), parts),
        }
        self.counted(weight, matrix.storage(), role, parts);
        Ok(matrix)
    }

    /// Counts what a weight is kept as.
    fn counted(&mut self, weight: &HostTensor, kept: &HostTensor, role: Role, parts: usize) {
        // Progress is told in bytes of the checkpoint, and blocks have fewer.
        let left = weight.byte_len().saturating_sub(kept.byte_len());
        self.tensors.report(left, parts);
        if role != Role::Whole {
            let width = weight.shape().last().copied().unwrap_or(0);
            self.tally.add(kept.dtype(), width);
        }
        self.footprint.add(kept);
    }

    /// The type that a weight is computed from: what is asked for, but where numbers would become infinite in it.
    fn wanted(
        &self,
        name: &str,
        weight: &HostTensor,
        role: Role,
    ) -> Result<StoredDtype, LoadError> {
        let width = weight.shape().last().copied().unwrap_or(0);
        let format = self.options.quantise.and_then(|wanted| match role {
            Role::Layer => wanted.fitting(width),
            Role::Head => wanted.of_head().fitting(width),
            Role::Whole => None,
        });
        let stored = weight.dtype();
        let wanted = match (stored, format) {
            (StoredDtype::Quantised(_), _) => return Ok(stored),
            (_, Some(format)) => return Ok(StoredDtype::Quantised(format)),
            (StoredDtype::F64, None) => self.options.dtype.unwrap_or(StoredDtype::F32),
            (other, None) => self.options.dtype.unwrap_or(other),
        };
        holding(name, weight, wanted)
    }
}

/// A rank's part of a matrix: a view, unless the cut goes through blocks.
fn cut(weight: HostTensor, part: &Part) -> Result<HostTensor, LoadError> {
    let Part { rows, columns, .. } = part;
    let weight = weight.narrow(0, rows.start, rows.len())?;
    let weight = match weight.can_narrow(1, columns.start, columns.len()) {
        true => weight,
        false => weight.to_dtype(StoredDtype::F16)?,
    };
    Ok(weight.narrow(1, columns.start, columns.len())?)
}

/// Fails on a tensor of another shape.
pub(crate) fn require(
    name: &str,
    found: &HostTensor,
    wanted: &[usize],
    keys: &str,
) -> Result<(), LoadError> {
    if found.shape() == wanted {
        return Ok(());
    }
    Err(LoadError::Shape {
        tensor: name.to_owned(),
        found: found.shape().to_vec(),
        wanted: wanted.to_vec(),
        keys: format!("[{keys}]"),
    })
}

pub(crate) fn refused(name: &str, cause: candle_core::Error) -> LoadError {
    LoadError::Layer {
        tensor: name.to_owned(),
        cause,
    }
}
