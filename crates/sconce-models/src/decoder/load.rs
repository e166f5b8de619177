//! Turns named tensors into layers. Everything that can be settled before the first token is settled here:
//! names, transposes, the split of fused projections, the cut for this rank, the storage type.

use candle_core::Device;
use sconce_nn::weights::{Arena, HostTensor, Matrix, StoredDtype, WeightSource};
use sconce_nn::{Embedding, KvDtype, Linear, Norm, Rope, RopeSpec};

use super::footprint::Footprint;
use super::kept::holding;
use super::layout::{Projection, rows_of};
use super::load_error::LoadError;
use super::numbers::{kept_as, one_type, tensors_of};
use super::quantise::{Quantisation, Tally};
use super::rows::{are_same, picked};
use super::share::Share;
use super::slots::{Axis, Slot, Split};
use super::spec::{Affine, Head, NormKind, QkNormOver, Qkv, Spec};
use super::tensors::Tensors;
use crate::arch::{Arch, Fix};

/// How weights, keys and values are kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// The type of linear and embedding weights in memory: f32, f16 or bf16. `None`: as stored, without a copy.
    /// What is quantised stays so. Norms, biases and sums are f32 either way. Asked for bf16, products take their
    /// input rounded to bf16 too, where the machine computes faster so.
    pub dtype: Option<StoredDtype>,
    /// In which blocks matrices are kept that the checkpoint has as floating-point numbers. `None`: in none.
    pub quantise: Option<Quantisation>,
    /// Whether matrices are copied into huge pages, from which products read them faster than from a mapped file.
    pub in_huge_pages: bool,
    /// What keys and values are kept as.
    pub cache: KvDtype,
    /// Whether matrices go to a GPU: row by row and all of one type, which activations, keys and values have as well.
    pub for_gpu: bool,
    /// Whether steps on a GPU are launched kernel by kernel, not recorded and played again.
    pub eager: bool,
}

/// Makes the layers of one rank.
pub(crate) struct Loader<'a> {
    arch: &'static Arch,
    spec: &'a Spec,
    pub(super) share: Share,
    pub(super) options: LoadOptions,
    pub(super) device: Device,
    tensors: Tensors<'a>,
    footprint: Footprint,
    tally: Tally,
    arena: Option<Arena>,
    /// The one type of matrices that go to a GPU.
    pub(super) numbers: Option<StoredDtype>,
    /// What keys and values are kept as.
    pub(super) cache: KvDtype,
}

/// Which of the tensors of a slot: of which layer, and of which expert or head where each has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) slot: Slot,
    pub(crate) layer: usize,
    pub(crate) item: usize,
}

/// The two tensors of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Weight,
    Bias,
}

/// A weight as it is in the file, but for fixes, with its bias. Clones are views of the same bytes.
#[derive(Clone)]
struct Whole {
    name: String,
    weight: HostTensor,
    bias: Option<HostTensor>,
}

/// The weight of an embedding that the output projection is tied to.
pub(crate) struct Tied {
    /// As it is in the checkpoint.
    stored: HostTensor,
    matrix: Matrix,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        arch: &'static Arch,
        spec: &'a Spec,
        share: Share,
        options: LoadOptions,
        device: Device,
        source: &'a dyn WeightSource,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let tensors = tensors_of(arch, source, progress);
        let numbers = options
            .for_gpu
            .then(|| one_type(arch, &tensors, options.dtype));
        Self {
            arch,
            spec,
            share,
            options,
            cache: numbers.map_or(options.cache, kept_as),
            numbers,
            arena: (options.in_huge_pages && !options.for_gpu).then(Arena::default),
            device,
            tensors,
            footprint: Footprint::default(),
            tally: Tally::default(),
        }
    }

    /// A norm of the residual stream.
    pub(crate) fn norm(&mut self, slot: Slot, layer: usize) -> Result<Norm, LoadError> {
        self.norm_over(
            slot.of(layer),
            self.spec.norm,
            &[self.spec.dims.width],
            None,
        )
    }

    /// The norm of the queries or keys of all ranks.
    pub(crate) fn qk_norm(
        &mut self,
        slot: Slot,
        layer: usize,
        kind: NormKind,
        over: QkNormOver,
    ) -> Result<Norm, LoadError> {
        let dims = &self.spec.dims;
        let heads = if slot == Slot::QueryNorm {
            dims.heads
        } else {
            dims.kv_heads
        };
        let at = slot.of(layer);
        match over {
            QkNormOver::Head => self.norm_over(at, kind, &[dims.head], None),
            QkNormOver::AllHeads => self.norm_over(at, kind, &[heads * dims.head], None),
            QkNormOver::OwnHead => self.norm_over(at, kind, &[heads, dims.head], Some(heads)),
        }
    }

    /// The norm with a weight of that shape, as one row; `items`: it may be stored as so many tensors.
    fn norm_over(
        &mut self,
        at: At,
        kind: NormKind,
        shape: &[usize],
        items: Option<usize>,
    ) -> Result<Norm, LoadError> {
        let width = shape.iter().product();
        let weight = |loader: &mut Self, part| {
            let found = loader.norm_part(at, part, shape, items)?.at_hand()?;
            loader.tensors.touch(&found, 1);
            let weight = HostTensor::from_f32(found.to_vec_f32()?, &[width]);
            loader.footprint.add(&weight);
            Ok::<_, LoadError>(weight)
        };
        let norm = match kind {
            NormKind::Layer { eps, affine } => {
                let (weight, bias) = match affine {
                    Affine::Full => (weight(self, Part::Weight)?, Some(weight(self, Part::Bias)?)),
                    Affine::Weight => (weight(self, Part::Weight)?, None),
                    Affine::None => (HostTensor::from_f32(vec![1.0; width], &[width]), None),
                };
                Norm::layer(weight, bias, eps)
            }
            NormKind::Rms { eps, plus_one } => {
                let mut numbers = weight(self, Part::Weight)?.to_vec_f32()?;
                if plus_one {
                    numbers.iter_mut().for_each(|number| *number += 1.0);
                }
                Norm::rms(HostTensor::from_f32(numbers, &[width]), eps)
            }
        };
        norm.map_err(|cause| LoadError::Layer {
            tensor: self.name(at, Part::Weight),
            cause,
        })
    }

    /// One tensor of that shape, or, where its name says so, one for each head, joined.
    fn norm_part(
        &mut self,
        at: At,
        part: Part,
        shape: &[usize],
        items: Option<usize>,
    ) -> Result<HostTensor, LoadError> {
        let keys = if shape.len() == 2 {
            "[heads, head_dim]".to_owned()
        } else {
            format!("[{}]", at.slot.axes()[0].keys())
        };
        let Some(items) = items.filter(|_| self.arch.is_itemised(at.slot)) else {
            return self.shaped(at, part, shape, &keys);
        };
        let parts = (0..items)
            .map(|item| {
                let own = self.shaped(At { item, ..at }, part, &shape[1..], "[head_dim]")?;
                Ok::<_, LoadError>(own.at_hand()?)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(HostTensor::cat(&parts)?)
    }

    /// The tables of the rotation.
    pub(crate) fn rope(&self, spec: &RopeSpec) -> Result<Rope, LoadError> {
        let tensor = "rotary tables".to_owned();
        Rope::new(spec).map_err(|cause| LoadError::Layer { tensor, cause })
    }

    /// This rank's part of the linear layer of a slot.
    pub(crate) fn linear(&mut self, slot: Slot, layer: usize) -> Result<Linear, LoadError> {
        self.linear_at(slot.of(layer))
    }

    /// The same for a slot of which each expert has its own.
    pub(crate) fn linear_at(&mut self, at: At) -> Result<Linear, LoadError> {
        let whole = self.whole(at)?;
        let before = self.footprint.weights;
        let linear = self.cut_linear(at.slot, whole)?;
        if at.slot.is_of_experts() {
            self.footprint.experts += self.footprint.weights - before;
        }
        Ok(linear)
    }

    /// This rank's projections to queries, keys and values, whatever their layout in the file.
    pub(crate) fn qkv(&mut self, layer: usize) -> Result<[Linear; 3], LoadError> {
        let fused = match self.spec.qkv {
            Qkv::Split => None,
            _ => Some(self.whole(Slot::Qkv.of(layer))?),
        };
        let mut projection = |slot: Slot, which| {
            let whole = match &fused {
                Some(fused) => fused.clone(),
                None => self.whole(slot.of(layer))?,
            };
            self.projection(slot, which, whole)
        };
        Ok([
            projection(Slot::Query, Projection::Query)?,
            projection(Slot::Key, Projection::Key)?,
            projection(Slot::Value, Projection::Value)?,
        ])
    }

    /// This rank's rows of one projection out of the tensor that holds them.
    fn projection(
        &mut self,
        slot: Slot,
        which: Projection,
        whole: Whole,
    ) -> Result<Linear, LoadError> {
        let mine = rows_of(self.spec, self.spec.qkv, &self.share, which);
        let bias = whole.bias.map(|bias| picked(&bias, &mine)).transpose()?;
        let weight = picked(&whole.weight, &mine)?;
        self.finished(slot, &whole.name, weight, bias)
    }

    /// This rank's gate and up projections, in one tensor or two.
    pub(crate) fn gate_up(&mut self, layer: usize) -> Result<[Linear; 2], LoadError> {
        if self.arch.names_of(Slot::GateUp).next().is_none() {
            return Ok([
                self.linear(Slot::Gate, layer)?,
                self.linear(Slot::Up, layer)?,
            ]);
        }
        let fused = self.whole(Slot::GateUp.of(layer))?;
        let inner = self.spec.dims.inner;
        let half = |which: usize| {
            let part = |tensor: &HostTensor| tensor.narrow(0, which * inner, inner);
            Ok::<_, LoadError>(Whole {
                name: fused.name.clone(),
                weight: part(&fused.weight)?,
                bias: fused.bias.as_ref().map(part).transpose()?,
            })
        };
        Ok([
            self.cut_linear(Slot::Gate, half(0)?)?,
            self.cut_linear(Slot::Up, half(1)?)?,
        ])
    }

    /// This rank's rows of the token embedding, and what a tied head is made of, if it is tied.
    pub(crate) fn embedding(&mut self) -> Result<(Embedding, Option<Tied>), LoadError> {
        let at = Slot::Embed.of(0);
        let rows = self.share.range(Axis::Vocab);
        let stored = self
            .tensor(at, Part::Weight)?
            .narrow(0, rows.start, rows.len())?;
        let tensor = self.name(at, Part::Weight);
        let matrix = match self.spec.head {
            Head::Tied => self.kept(Slot::Embed, &tensor, &stored, self.share.world)?,
            // Single rows are read from it, so they stay together.
            Head::Own => {
                let table = self.table(Slot::Embed, &tensor, &stored, self.share.world)?;
                return Ok((self.lookup(at, table, rows.start)?, None));
            }
        };
        let table = Embedding::of(matrix.clone(), rows.start, &self.device)
            .map_err(|cause| LoadError::Layer { tensor, cause })?;
        Ok((table, Some(Tied { stored, matrix })))
    }

    /// The learned positions, whole on every rank, without those for padding.
    pub(crate) fn positions(&mut self) -> Result<Embedding, LoadError> {
        let at = Slot::Position.of(0);
        let dims = &self.spec.dims;
        let (padding, context) = (dims.positions - dims.context, dims.context);
        let weight = self.tensor(at, Part::Weight)?.narrow(0, padding, context)?;
        let name = self.name(at, Part::Weight);
        let weight = self.table(Slot::Position, &name, &weight, 1)?;
        self.lookup(at, weight, 0)
    }

    /// The output projection over this rank's rows of the vocabulary, tied to the embedding.
    /// As in transformers, a head that is stored all the same is not tied when it differs.
    pub(crate) fn tied_head(&mut self, tied: Tied) -> Result<Linear, LoadError> {
        let at = Slot::Head.of(0);
        let name = self.name(at, Part::Weight);
        let Tied { stored, matrix } = tied;
        let mut weight = matrix;
        if self.tensors.has(&name) {
            let own = self.tensor(at, Part::Weight)?;
            let own = self.cut(Slot::Head, &own, Part::Weight)?.at_hand()?;
            if are_same(&own, &stored.at_hand()?)? {
                self.tensors.touch(&own, self.share.world);
            } else {
                tracing::warn!(
                    "`{name}` differs from the embedding it should be tied to: it is used as it is"
                );
                self.footprint.tables += weight.storage().byte_len() as u64;
                weight = self.kept(Slot::Head, &name, &own, self.share.world)?;
            }
        }
        let bias = self.bias(at)?;
        let bias = bias.map(|bias| {
            let own = self.cut(Slot::Head, &bias, Part::Bias)?;
            Ok::<_, LoadError>(own.at_hand()?)
        });
        self.layer(Slot::Head, &name, weight, bias.transpose()?)
    }

    /// Checks that nothing of the checkpoint is left over; what was loaded, and what it was made to.
    pub(crate) fn finish(self) -> Result<(Footprint, Tally), LoadError> {
        self.tensors.finish(self.arch.ignore)?;
        Ok((self.footprint, self.tally))
    }

    fn whole(&mut self, at: At) -> Result<Whole, LoadError> {
        Ok(Whole {
            weight: self.tensor(at, Part::Weight)?,
            bias: self.bias(at)?,
            name: self.name(at, Part::Weight),
        })
    }

    fn bias(&mut self, at: At) -> Result<Option<HostTensor>, LoadError> {
        if !self.spec.biases.contains(&at.slot) {
            return Ok(None);
        }
        self.tensor(at, Part::Bias).map(Some)
    }

    /// A tensor as the decoder wants it, uncut: found, fixed, and of the shape that the configuration says.
    fn tensor(&mut self, at: At, part: Part) -> Result<HostTensor, LoadError> {
        let transposed = part == Part::Weight
            && self.arch.fixes.contains(&(at.slot, Fix::Transpose))
            && !self.tensors.has_outputs_as_rows(&self.name(at, part));
        let mut axes = at.slot.axes().to_vec();
        if part == Part::Bias {
            axes.truncate(1);
        }
        if transposed {
            axes.reverse();
        }
        let wanted: Vec<usize> = axes.iter().map(|axis| axis.len(&self.spec.dims)).collect();
        let keys: Vec<&str> = axes.iter().map(|axis| axis.keys()).collect();
        let found = self.shaped(at, part, &wanted, &format!("[{}]", keys.join(", ")))?;
        Ok(if transposed {
            found.transpose()?
        } else {
            found
        })
    }

    /// A tensor as it is in the file, of the shape that these keys of the configuration say.
    fn shaped(
        &mut self,
        at: At,
        part: Part,
        wanted: &[usize],
        keys: &str,
    ) -> Result<HostTensor, LoadError> {
        let name = self.name(at, part);
        let found = self.tensors.take(&name, hint(at.slot, part))?;
        if found.shape() != wanted {
            return Err(LoadError::Shape {
                tensor: self.tensors.name_in_file(&name).to_owned(),
                found: found.shape().to_vec(),
                wanted: wanted.to_vec(),
                keys: keys.to_owned(),
            });
        }
        Ok(found)
    }

    fn cut_linear(&mut self, slot: Slot, whole: Whole) -> Result<Linear, LoadError> {
        let weight = self.cut(slot, &whole.weight, Part::Weight)?;
        // The results of a column cut are summed over the ranks, so one of them adds the bias.
        let added_here = slot.split() != Split::Columns || self.share.rank == 0;
        let bias = whole.bias.filter(|_| added_here);
        let bias = bias.map(|bias| self.cut(slot, &bias, Part::Bias));
        self.finished(slot, &whole.name, weight, bias.transpose()?)
    }

    /// The layer of a weight and a bias that are cut already.
    fn finished(
        &mut self,
        slot: Slot,
        name: &str,
        weight: HostTensor,
        bias: Option<HostTensor>,
    ) -> Result<Linear, LoadError> {
        let weight = self.kept(slot, name, &weight, self.share.world)?;
        let bias = bias.map(|bias| bias.at_hand()).transpose()?;
        if let Some(bias) = &bias {
            self.tensors.touch(bias, self.share.world);
            self.footprint.add_as_f32(bias);
        }
        self.layer(slot, name, weight, bias)
    }

    /// This rank's part of a tensor: a view, but where the cut goes through blocks, whose numbers are then kept as f16.
    fn cut(&self, slot: Slot, tensor: &HostTensor, part: Part) -> Result<HostTensor, LoadError> {
        let dim = match (slot.split(), part) {
            (Split::Rows | Split::Vocabulary, _) => 0,
            (Split::Columns, Part::Weight) => 1,
            (Split::Columns, Part::Bias) | (Split::Copied, _) => return Ok(tensor.clone()),
        };
        let range = self.share.range(slot.axes()[dim]);
        if !tensor.can_narrow(dim, range.start, range.len()) {
            let numbers = tensor.at_hand()?.to_dtype(StoredDtype::F16)?;
            return Ok(numbers.narrow(dim, range.start, range.len())?);
        }
        Ok(tensor.narrow(dim, range.start, range.len())?)
    }

    /// The weight as it is multiplied with, in the type that it is computed from, all its pages in memory.
    fn kept(
        &mut self,
        slot: Slot,
        name: &str,
        weight: &HostTensor,
        parts: usize,
    ) -> Result<Matrix, LoadError> {
        let weight = &weight.at_hand()?;
        let wanted = self.wanted(slot, name, weight)?;
        if self.numbers.is_some() {
            let rows = weight.to_dtype(wanted)?.packed()?;
            self.counted(slot, weight, &rows, parts);
            self.tensors.report(rows.byte_len(), parts);
            return self.on_device(slot, Matrix::of_rows(rows)?);
        }
        let matrix = match &mut self.arena {
            Some(arena) => arena.hold_matrix(weight, wanted)?,
            None => Matrix::of(weight, wanted)?,
        };
        match matrix.rows() {
            Some(rows) => self.tensors.touch(rows, parts),
            // Every word was just written.
            None => self.tensors.report(matrix.storage().byte_len(), parts),
        }
        self.counted(slot, weight, matrix.storage(), parts);
        Ok(matrix)
    }

    /// The weight of which single rows are read, in the type that it is computed from, all its pages in memory.
    fn table(
        &mut self,
        slot: Slot,
        name: &str,
        weight: &HostTensor,
        parts: usize,
    ) -> Result<HostTensor, LoadError> {
        let weight = &weight.at_hand()?;
        let wanted = self.wanted(slot, name, weight)?;
        let table = match &mut self.arena {
            Some(arena) => arena.hold(weight, wanted)?,
            None => weight.to_dtype(wanted)?.packed()?,
        };
        self.tensors.touch(&table, parts);
        self.counted(slot, weight, &table, parts);
        self.footprint.tables += table.byte_len() as u64;
        Ok(table)
    }

    /// The type that a weight is computed from; `name` is for messages.
    fn wanted(
        &self,
        slot: Slot,
        name: &str,
        weight: &HostTensor,
    ) -> Result<StoredDtype, LoadError> {
        if let Some(numbers) = self.numbers {
            return Ok(numbers);
        }
        let width = weight.shape().last().copied().unwrap_or(0);
        let format = |wanted: Quantisation| wanted.format(slot, self.spec, width);
        let wanted = match (weight.dtype(), self.options.quantise.and_then(format)) {
            (blocks @ StoredDtype::Quantised(_), _) => return Ok(blocks),
            (_, Some(format)) => return Ok(StoredDtype::Quantised(format)),
            (StoredDtype::F64, None) => self.options.dtype.unwrap_or(StoredDtype::F32),
            (other, None) => self.options.dtype.unwrap_or(other),
        };
        holding(name, weight, wanted)
    }

    /// Counts what a weight is kept as.
    fn counted(&mut self, slot: Slot, weight: &HostTensor, kept: &HostTensor, parts: usize) {
        // Progress is told in bytes of the checkpoint, and blocks have fewer.
        let left = weight.byte_len().saturating_sub(kept.byte_len());
        self.tensors.report(left, parts);
        if Quantisation::concerns(slot) {
            let width = weight.shape().last().copied().unwrap_or(0);
            self.tally.add(kept.dtype(), width);
        }
        self.footprint.add(kept);
    }

    fn layer(
        &self,
        slot: Slot,
        name: &str,
        weight: Matrix,
        bias: Option<HostTensor>,
    ) -> Result<Linear, LoadError> {
        let tensor = self.tensors.name_in_file(name).to_owned();
        let linear = Linear::of(weight, bias, &self.device)
            .map_err(|cause| LoadError::Layer { tensor, cause })?;
        // A rounded input could pick other experts.
        let picks = matches!(slot, Slot::Router | Slot::SharedRouter);
        Ok(match self.options.dtype {
            Some(StoredDtype::BF16) if !picks => linear.with_bf16_products(),
            _ => linear,
        })
    }

    fn lookup(&self, at: At, weight: HostTensor, first: usize) -> Result<Embedding, LoadError> {
        let tensor = self.name(at, Part::Weight);
        Embedding::new(weight, first, &self.device)
            .map_err(|cause| LoadError::Layer { tensor, cause })
    }

    /// The full name of a tensor, with the base model's prefix: the first of the slot's names that the checkpoint
    /// has, else the first.
    fn name(&self, at: At, part: Part) -> String {
        let full = |name: &str| {
            let place = name
                .replace("{}", &at.layer.to_string())
                .replace("{item}", &at.item.to_string());
            match part {
                Part::Weight => place + ".weight",
                Part::Bias => place + ".bias",
            }
        };
        let mut names = self.arch.names_of(at.slot).map(full);
        let first = names
            .next()
            .expect("a family lists all slots that its spec asks for");
        if self.tensors.has(&first) {
            return first;
        }
        names.find(|name| self.tensors.has(name)).unwrap_or(first)
    }
}

/// What in `config.json` could be the reason that a tensor is missing.
fn hint(slot: Slot, part: Part) -> &'static str {
    match (slot, part) {
        (Slot::Head, _) => {
            "; is `tie_word_embeddings` false by mistake, or is this a base model without a head?"
        }
        (_, Part::Bias) => "; do `attention_bias` and `mlp_bias` say what the checkpoint has?",
        (Slot::Embed, _) => "; do the weights belong to the model that `architectures` names?",
        _ => "; are shards missing, or is the number of layers wrong?",
    }
}
