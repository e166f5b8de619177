//! Checkpoints whose files here have headers alone, while their numbers are elsewhere: below a prefix of S3, or still on
//! their way to the disk. A tensor of such a file is a view like any other; whoever needs its numbers has them fetched
//! ([`HostTensor::at_hand`]). Who fetches, how and how much at a time is left to [`Numbers`].

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::WeightSource;
use super::buffer::{AlignedBytes, Buffer};
use super::error::WeightError;
use super::host_tensor::{HostTensor, span};
use crate::pulse;

/// Bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// The file, relative to the folder of the checkpoint.
    pub file: Arc<str>,
    /// Which bytes.
    pub bytes: Range<u64>,
}

/// Where numbers come from.
pub trait Numbers: Send + Sync {
    /// Waits for a part and writes it to `target`, which has its size. `alive` is called about once a second meanwhile.
    ///
    /// # Errors
    /// Why it will not come, in words.
    fn read(&self, part: &Part, target: &mut [u8], alive: &dyn Fn()) -> Result<(), String>;

    /// Told, before the first of them is read, which parts one rank will read, in this order.
    fn expect(&self, parts: Vec<Part>);
}

/// The numbers of one tensor.
pub(crate) struct Elsewhere {
    numbers: Arc<dyn Numbers>,
    file: Arc<str>,
    /// Where the tensor begins in the file.
    begin: u64,
    /// Its bytes, from the first to the last.
    pub(super) len: usize,
    /// In a rehearsal: what was asked for.
    wanted: Option<Wanted>,
}

type Wanted = Arc<Mutex<Vec<Part>>>;

impl Elsewhere {
    /// Whether nothing is fetched of it, because it is only told what would be.
    pub(super) fn is_rehearsed(&self) -> bool {
        self.wanted.is_some()
    }

    fn part(&self, first: usize, len: usize) -> Part {
        let begin = self.begin + first as u64;
        Part {
            file: Arc::clone(&self.file),
            bytes: begin..begin + len as u64,
        }
    }
}

impl HostTensor {
    /// The same tensor, its numbers those of the file's true content.
    pub(super) fn moved_elsewhere(&self, file: &Arc<str>, numbers: &Arc<dyn Numbers>) -> Self {
        let elements = span(&self.shape, &self.strides).unwrap_or(0);
        let buffer = Buffer::Elsewhere(Elsewhere {
            numbers: Arc::clone(numbers),
            file: Arc::clone(file),
            begin: self.offset as u64,
            len: self.dtype().bytes(elements),
            wanted: None,
        });
        self.over(buffer, 0)
    }

    /// The same view of other bytes.
    fn over(&self, buffer: Buffer, offset: usize) -> Self {
        let mut other = self.clone();
        other.buffer = Arc::new(buffer);
        other.offset = offset;
        other
    }

    /// Itself with its numbers in memory: fetched, if they are elsewhere, and then row-major. Of a tensor whose numbers
    /// follow each other in the file only these are fetched, of others all, since that takes one request.
    pub fn at_hand(&self) -> Result<Self, WeightError> {
        let Buffer::Elsewhere(elsewhere) = &*self.buffer else {
            return Ok(self.clone());
        };
        let in_order = self.is_contiguous();
        let (first, len) = match in_order {
            true => (self.offset, self.byte_len()),
            false => (0, elsewhere.len),
        };
        if let Some(wanted) = &elsewhere.wanted {
            if len > 0 {
                let mut wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
                wanted.push(elsewhere.part(first, len));
            }
            return Ok(self.clone());
        }
        let mut bytes = AlignedBytes::zeroed(len);
        if len > 0 {
            let part = elsewhere.part(first, len);
            let read = elsewhere
                .numbers
                .read(&part, bytes.bytes_mut(), &pulse::beat);
            read.map_err(|cause| WeightError::Elsewhere {
                file: elsewhere.file.to_string(),
                cause,
            })?;
        }
        let here = self.over(Buffer::Owned(bytes), self.offset - first);
        if in_order { Ok(here) } else { here.copied() }
    }
}

/// A checkpoint that is loaded without its numbers, to learn which will be wanted.
pub struct Rehearsal<'a> {
    source: &'a dyn WeightSource,
    numbers: Arc<dyn Numbers>,
    wanted: Wanted,
}

impl<'a> Rehearsal<'a> {
    /// Of a checkpoint whose numbers are elsewhere; `None`: they are here, and nobody has to be told.
    pub fn of(source: &'a dyn WeightSource) -> Option<Self> {
        Some(Self {
            source,
            numbers: Arc::clone(source.numbers()?),
            wanted: Wanted::default(),
        })
    }

    /// Tells who fetches them.
    pub fn tell(self) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        self.numbers.expect(std::mem::take(&mut wanted));
    }
}

impl WeightSource for Rehearsal<'_> {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        let tensor = self.source.get(name)?;
        let Buffer::Elsewhere(elsewhere) = &*tensor.buffer else {
            return Ok(tensor.outline());
        };
        let buffer = Buffer::Elsewhere(Elsewhere {
            numbers: Arc::clone(&elsewhere.numbers),
            file: Arc::clone(&elsewhere.file),
            begin: elsewhere.begin,
            len: elsewhere.len,
            wanted: Some(Arc::clone(&self.wanted)),
        });
        Ok(tensor.over(buffer, tensor.offset))
    }

    fn has_unlisted(&self, name: &str) -> bool {
        self.source.has_unlisted(name)
    }

    fn has_outputs_as_rows(&self, name: &str) -> bool {
        self.source.has_outputs_as_rows(name)
    }

    fn total_bytes(&self) -> u64 {
        self.source.total_bytes()
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}

/// The name of a file relative to the folder of its checkpoint.
pub(super) fn name_of(file: &Path, dir: &Path) -> Arc<str> {
    let name = file.strip_prefix(dir).unwrap_or(file);
    name.to_string_lossy().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::StoredDtype;
    use crate::weights::host_tensor::row_major;

    /// A file in memory, and what was read of it.
    struct File {
        bytes: Vec<u8>,
        read: Mutex<Vec<Range<u64>>>,
        expected: Mutex<Vec<Part>>,
    }

    impl Numbers for File {
        fn read(&self, part: &Part, target: &mut [u8], _: &dyn Fn()) -> Result<(), String> {
            let Part { file, bytes } = part;
            if &**file != "model.safetensors" {
                return Err(format!("there is no {file}"));
            }
            self.read.lock().unwrap().push(bytes.clone());
            target.copy_from_slice(&self.bytes[bytes.start as usize..bytes.end as usize]);
            Ok(())
        }

        fn expect(&self, parts: Vec<Part>) {
            self.expected.lock().unwrap().extend(parts);
        }
    }

    fn numbers() -> HostTensor {
        HostTensor::from_f32((0..24).map(|n| n as f32).collect(), &[6, 4])
    }

    /// The tensor, and its twin elsewhere, behind 8 bytes of a header.
    fn twins(name: &str) -> (HostTensor, HostTensor, Arc<File>) {
        let here = numbers();
        let bytes = here.run(0, here.elements());
        let file = Arc::new(File {
            bytes: [&[9; 8], bytes].concat(),
            read: Mutex::default(),
            expected: Mutex::default(),
        });
        // A file of headers: the numbers are zeros.
        let empty = Arc::new(Buffer::Owned(AlignedBytes::zeroed(8 + bytes.len())));
        let stored = HostTensor::view(empty, 8, StoredDtype::F32, vec![6, 4], row_major(&[6, 4]));
        let origin: Arc<dyn Numbers> = file.clone();
        let there = stored.unwrap().moved_elsewhere(&name.into(), &origin);
        (here, there, file)
    }

    type Cut = fn(&HostTensor) -> HostTensor;

    #[test]
    fn what_is_cut_out_is_all_that_is_fetched_unless_it_is_scattered() {
        let cuts: [(Cut, Range<u64>); 5] = [
            (|tensor| tensor.clone(), 8..104),
            (|tensor| tensor.narrow(0, 2, 3).unwrap(), 40..88),
            (
                |tensor| {
                    tensor
                        .narrow(0, 1, 4)
                        .unwrap()
                        .narrow(0, 1, 1)
                        .unwrap()
                        .reshape(&[2, 2])
                        .unwrap()
                },
                40..56,
            ),
            (|tensor| tensor.narrow(1, 1, 2).unwrap(), 8..104),
            (|tensor| tensor.transpose().unwrap(), 8..104),
        ];
        for (index, (cut, range)) in cuts.into_iter().enumerate() {
            let (here, there, file) = twins("model.safetensors");
            let (here, there) = (cut(&here), cut(&there));
            assert!(file.read.lock().unwrap().is_empty(), "case {index}");
            let fetched = there.at_hand().unwrap();
            assert_eq!(*file.read.lock().unwrap(), [range], "case {index}");
            assert!(fetched.is_packed() && fetched.is_contiguous() && fetched.is_owned());
            assert_eq!(fetched.shape(), here.shape());
            assert_eq!(fetched.to_vec_f32().unwrap(), here.to_vec_f32().unwrap());
            // What needs numbers fetches them by itself too.
            assert_eq!(there.to_vec_f32().unwrap(), here.to_vec_f32().unwrap());
            let halved = |tensor: &HostTensor| tensor.to_dtype(StoredDtype::BF16).unwrap();
            assert_eq!(
                halved(&there).to_vec_f32().unwrap(),
                halved(&here).to_vec_f32().unwrap()
            );
        }
    }

    #[test]
    fn what_does_not_come_is_named() {
        let (_, there, _) = twins("other.safetensors");
        let text = there.at_hand().unwrap_err().to_string();
        assert!(text.contains("there is no other.safetensors"), "{text}");
        assert!(there.to_vec_f32().is_err());
        assert!(there.rows().is_err());
        assert!(there.narrow(0, 0, 0).unwrap().at_hand().is_ok());
    }

    #[test]
    fn a_rehearsal_tells_what_will_be_read_and_reads_nothing() {
        struct One(HostTensor, Arc<dyn Numbers>);

        impl WeightSource for One {
            fn names(&self) -> Vec<String> {
                vec!["one".into()]
            }

            fn get(&self, _: &str) -> Result<HostTensor, WeightError> {
                Ok(self.0.clone())
            }

            fn total_bytes(&self) -> u64 {
                self.0.byte_len() as u64
            }

            fn describe(&self) -> String {
                "one".into()
            }

            fn numbers(&self) -> Option<&Arc<dyn Numbers>> {
                Some(&self.1)
            }
        }

        let (_, there, file) = twins("model.safetensors");
        let source = One(there, file.clone());
        let load = |source: &dyn WeightSource| {
            let tensor = source.get("one").unwrap();
            let rows = tensor.narrow(0, 4, 2).unwrap().at_hand().unwrap();
            let columns = tensor.narrow(1, 0, 1).unwrap().at_hand().unwrap();
            (rows.packed().unwrap().shape().to_vec(), columns)
        };
        let rehearsal = Rehearsal::of(&source).unwrap();
        load(&rehearsal);
        rehearsal.tell();
        assert!(file.read.lock().unwrap().is_empty());
        let expected = std::mem::take(&mut *file.expected.lock().unwrap());
        let expected: Vec<_> = expected.into_iter().map(|part| part.bytes).collect();
        load(&source);
        assert_eq!(*file.read.lock().unwrap(), expected);
        assert_eq!(expected, [72..104, 8..104]);
    }
}
