//! What a pickle of a checkpoint consists of, once read: names, numbers, tuples, dicts and descriptions of tensors.

use super::error::PickleProblem;
use crate::weights::dtype::StoredDtype;

/// A value; copies of it are cheap and share what they refer to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// Anything that says nothing about tensors: none, truth values, floats, bytes.
    Plain,
    /// A list or set, whose members are of no interest.
    List,
    Int(i64),
    /// UTF-8 text in the pickle.
    Text {
        start: u32,
        len: u32,
    },
    Global(Global),
    /// Position of an object in the heap.
    Object(u32),
}

/// The only names that a pickle may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Size,
    Dtype(StoredDtype),
    /// The type of a storage; without a dtype it counts bytes.
    Storage(Option<StoredDtype>),
    Rebuild(Rebuild),
}

/// Functions of torch that make a tensor of a storage, or wrap one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rebuild {
    /// `(storage, offset, size, stride)` and flags that change no number; `_rebuild_tensor` and `_v2`.
    Typed,
    /// As above, with the dtype in place seven, since the storage has none.
    Untyped,
    /// `(tensor, requires_grad, hooks, …)`: the tensor itself.
    Parameter,
}

/// What values refer to.
#[derive(Debug)]
pub(super) enum Object {
    Tuple(Box<[Value]>),
    Dict(Vec<(Value, Value)>),
    Storage(Storage),
    Tensor(Tensor),
}

/// One storage: an entry of the archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    pub(super) dtype: Option<StoredDtype>,
    /// Name of the entry below `data/`: a text.
    pub(super) key: Value,
    /// Numbers of `dtype`, or bytes without one.
    pub(super) elements: usize,
}

/// One tensor, as a part of a storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tensor {
    pub(super) storage: Storage,
    pub(super) dtype: StoredDtype,
    /// Of the first element, in elements.
    pub(super) offset: usize,
    /// Positions of the tuples with the sizes and strides.
    pub(super) shape: u32,
    pub(super) strides: u32,
}

/// All objects of a pickle. Values refer to them by position, so that cycles and deep nesting cost nothing to drop.
#[derive(Debug)]
pub(super) struct Heap<'a> {
    pub(super) pickle: &'a [u8],
    objects: Vec<Object>,
}

/// Objects of one pickle: a hundred thousand tensors take less than a million.
const MAX_OBJECTS: usize = 1 << 22;
/// Dimensions of a tensor, as torch limits them.
const MAX_DIMENSIONS: usize = 64;

impl<'a> Heap<'a> {
    pub(super) fn new(pickle: &'a [u8]) -> Self {
        Self {
            pickle,
            objects: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, object: Object) -> Result<Value, PickleProblem> {
        if self.objects.len() == MAX_OBJECTS {
            return Err(PickleProblem::Limit {
                what: "the number of objects is",
                limit: MAX_OBJECTS,
            });
        }
        let position = self.objects.len() as u32;
        self.objects.push(object);
        Ok(Value::Object(position))
    }

    pub(super) fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(position) => self.objects.get(position as usize),
            _ => None,
        }
    }

    pub(super) fn text(&self, value: Value) -> Result<&'a str, PickleProblem> {
        let Value::Text { start, len } = value else {
            return Err(self.kind("text", value));
        };
        let bytes = &self.pickle[start as usize..][..len as usize];
        // Checked when the text was read, so that this cannot fail.
        std::str::from_utf8(bytes).map_err(|_| PickleProblem::Text)
    }

    pub(super) fn tuple(&self, value: Value) -> Result<&[Value], PickleProblem> {
        match self.object(value) {
            Some(Object::Tuple(members)) => Ok(members),
            _ => Err(self.kind("a tuple", value)),
        }
    }

    pub(super) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.object(value) {
            Some(Object::Dict(items)) => Some(items),
            _ => None,
        }
    }

    pub(super) fn dict_mut(
        &mut self,
        value: Value,
    ) -> Result<&mut Vec<(Value, Value)>, PickleProblem> {
        let problem = self.kind("a dict", value);
        match value {
            Value::Object(position) => match self.objects.get_mut(position as usize) {
                Some(Object::Dict(items)) => Ok(items),
                _ => Err(problem),
            },
            _ => Err(problem),
        }
    }

    pub(super) fn tensor(&self, value: Value) -> Option<Tensor> {
        match self.object(value) {
            Some(Object::Tensor(tensor)) => Some(*tensor),
            _ => None,
        }
    }

    /// The sizes or strides of a tensor.
    pub(super) fn dimensions(&self, tuple: u32) -> Result<Vec<usize>, PickleProblem> {
        let members = self.tuple(Value::Object(tuple))?;
        if members.len() > MAX_DIMENSIONS {
            return Err(PickleProblem::Limit {
                what: "the number of dimensions is",
                limit: MAX_DIMENSIONS,
            });
        }
        members.iter().map(|&member| self.size(member)).collect()
    }

    /// A number that counts something.
    pub(super) fn size(&self, value: Value) -> Result<usize, PickleProblem> {
        match value {
            Value::Int(number) => usize::try_from(number).map_err(|_| PickleProblem::Kind {
                wanted: "a size",
                found: "a negative number",
            }),
            _ => Err(self.kind("a size", value)),
        }
    }

    pub(super) fn kind(&self, wanted: &'static str, value: Value) -> PickleProblem {
        PickleProblem::Kind {
            wanted,
            found: self.name_of(value),
        }
    }

    pub(super) fn name_of(&self, value: Value) -> &'static str {
        match value {
            Value::Plain => "a plain value",
            Value::List => "a list",
            Value::Int(_) => "a number",
            Value::Text { .. } => "text",
            Value::Global(_) => "a type or function",
            Value::Object(_) => match self.object(value) {
                Some(Object::Tuple(_)) => "a tuple",
                Some(Object::Dict(_)) => "a dict",
                Some(Object::Storage(_)) => "a storage",
                Some(Object::Tensor(_)) => "a tensor",
                None => "nothing",
            },
        }
    }
}
