//! Takes tensors out of a checkpoint by name: with or without the base model's prefix, each counted, none left over.
//! Also touches the bytes of what is kept, so that the first request does not wait for the disk.

use std::collections::BTreeSet;
use std::hint::black_box;

use sconce_nn::weights::{HostTensor, StoredDtype, WeightSource};

use super::load_error::LoadError;

/// Bytes between two reports of progress.
const PIECE: usize = 8 << 20;

/// The smallest page size; one read in each brings a mapped file into memory.
const PAGE: usize = 4096;

/// A checkpoint that is being read.
pub(crate) struct Tensors<'a> {
    source: &'a dyn WeightSource,
    names: BTreeSet<String>,
    unread: BTreeSet<String>,
    /// The base model's prefix, when the checkpoint's names lack it.
    missing_prefix: Option<&'static str>,
    progress: &'a mut dyn FnMut(u64, u64),
    touched: u64,
    total: u64,
}

impl<'a> Tensors<'a> {
    /// `landmark` is a tensor of the base model that every checkpoint has, under its full name: whether the
    /// checkpoint's names begin with the base model's prefix is told from it, once for all.
    pub(crate) fn new(
        source: &'a dyn WeightSource,
        landmark: &'static str,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let names: BTreeSet<String> = source.names().into_iter().collect();
        let bare = landmark.split_once('.').filter(|(_, bare)| {
            names.contains(&format!("{bare}.weight"))
                && !names.contains(&format!("{landmark}.weight"))
        });
        let missing_prefix = bare.map(|(prefix, _)| prefix);
        Self {
            source,
            unread: names.clone(),
            names,
            missing_prefix,
            progress,
            touched: 0,
            total: source.total_bytes(),
        }
    }

    /// Whether the checkpoint has a tensor of that full name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(self.name_in_file(name))
    }

    /// Whether the matrix of that full name lies with its outputs as rows, whatever its family's files have.
    pub(crate) fn has_outputs_as_rows(&self, name: &str) -> bool {
        self.source.has_outputs_as_rows(self.name_in_file(name))
    }

    /// The stored type of the tensor of that full name, if there is one.
    pub(crate) fn dtype_of(&self, name: &str) -> Option<StoredDtype> {
        let stored = self.source.get(self.name_in_file(name)).ok()?;
        Some(stored.dtype())
    }

    /// A view of the tensor of that full name.
    pub(crate) fn take(&mut self, name: &str, hint: &'static str) -> Result<HostTensor, LoadError> {
        let name = self.name_in_file(name).to_owned();
        if !self.unread.remove(&name) && !self.source.has_unlisted(&name) {
            return Err(LoadError::Missing { tensor: name, hint });
        }
        let tensor = self.source.get(&name)?;
        if !tensor.dtype().is_float() && !tensor.dtype().is_quantised() {
            return Err(LoadError::Dtype {
                tensor: name,
                dtype: tensor.dtype(),
            });
        }
        Ok(tensor)
    }

    /// The name without the prefix that this checkpoint leaves out.
    pub(crate) fn name_in_file<'n>(&self, name: &'n str) -> &'n str {
        let bare = self
            .missing_prefix
            .and_then(|prefix| name.strip_prefix(prefix)?.strip_prefix('.'));
        bare.unwrap_or(name)
    }

    /// Reads one byte of every page of a packed tensor and reports; each byte stands for `parts` in the checkpoint,
    /// so that a rank that keeps one of `parts` shares counts to the whole.
    pub(crate) fn touch(&mut self, tensor: &HostTensor, parts: usize) {
        let rows = if tensor.shape().len() == 2 {
            tensor.shape()[0]
        } else {
            0
        };
        let mut unreported = tensor.byte_len();
        let mut piece = 0;
        for row in 0..rows {
            let bytes = tensor.row_bytes(row);
            for page in bytes.chunks(PAGE) {
                black_box(page[0]);
            }
            piece += bytes.len();
            if piece >= PIECE {
                self.report(piece, parts);
                unreported = unreported.saturating_sub(piece);
                piece = 0;
            }
        }
        self.report(unreported, parts);
    }

    /// Fails when something is left that is not known to be needless, by the ending of its name.
    pub(crate) fn finish(self, ignore: &[&str]) -> Result<(), LoadError> {
        self.finish_unless(&|_| false, ignore)
    }

    /// The same, where more is needless: whatever `spared` says so of.
    pub(crate) fn finish_unless(
        mut self,
        spared: &dyn Fn(&str) -> bool,
        ignore: &[&str],
    ) -> Result<(), LoadError> {
        let needless = |name: &String| {
            let known = ignore.iter().any(|&end| {
                name.strip_suffix(end)
                    .is_some_and(|head| head.is_empty() || head.ends_with('.'))
            });
            known || spared(name)
        };
        self.unread.retain(|name| !needless(name));
        if !self.unread.is_empty() {
            return Err(LoadError::Unread {
                names: self.unread.into_iter().collect(),
            });
        }
        (self.progress)(self.total, self.total);
        Ok(())
    }

    /// Counts so many bytes as read.
    pub(crate) fn report(&mut self, bytes: usize, parts: usize) {
        self.touched = self.total.min(self.touched + bytes as u64 * parts as u64);
        (self.progress)(self.touched, self.total);
    }
}
