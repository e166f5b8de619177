//! The names a checkpoint's pickle may refer to, and what calling them gives. Everything else is refused by name.

use super::error::PickleProblem;
use super::value::{Global, Heap, Object, Rebuild, Storage, Tensor, Value};
use crate::weights::dtype::StoredDtype;

/// Finds the meaning of `module.name`.
pub(super) fn find(module: &str, name: &str) -> Result<Global, PickleProblem> {
    let known = match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch", "Size") => Some(Global::Size),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => {
            Some(Global::Rebuild(Rebuild::Typed))
        }
        ("torch._utils", "_rebuild_tensor_v3") => Some(Global::Rebuild(Rebuild::Untyped)),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Some(Global::Rebuild(Rebuild::Parameter))
        }
        ("torch" | "torch.storage", "UntypedStorage") => Some(Global::Storage(None)),
        ("torch", name) => match name.strip_suffix("Storage") {
            Some(kind) => storage_dtype(kind).map(|dtype| Global::Storage(Some(dtype))),
            None => StoredDtype::ALL
                .into_iter()
                .find(|dtype| dtype.name() == name)
                .map(Global::Dtype),
        },
        _ => None,
    };
    known.ok_or_else(|| {
        let full = format!("{module}.{name}");
        if is_number_type(module, name) {
            PickleProblem::Dtype(full)
        } else {
            PickleProblem::Global(full)
        }
    })
}

/// Types of numbers that torch knows and this reader does not: worth another message than code.
fn is_number_type(module: &str, name: &str) -> bool {
    let starts = |prefix| name.starts_with(prefix);
    module == "torch"
        && (name.ends_with("Storage")
            || ["float", "complex", "q", "bits", "int", "uint"]
                .iter()
                .any(starts))
}

fn storage_dtype(kind: &str) -> Option<StoredDtype> {
    Some(match kind {
        "Double" => StoredDtype::F64,
        "Float" => StoredDtype::F32,
        "Half" => StoredDtype::F16,
        "BFloat16" => StoredDtype::BF16,
        "Long" => StoredDtype::I64,
        "Int" => StoredDtype::I32,
        "Short" => StoredDtype::I16,
        "Char" => StoredDtype::I8,
        "Byte" => StoredDtype::U8,
        "Bool" => StoredDtype::Bool,
        _ => return None,
    })
}

/// What a call gives: the only "execution" there is.
pub(super) fn call(
    heap: &mut Heap<'_>,
    callee: Value,
    arguments: Value,
) -> Result<Value, PickleProblem> {
    let given = heap.tuple(arguments)?;
    match callee {
        Value::Global(Global::OrderedDict) if given.is_empty() => {
            heap.add(Object::Dict(Vec::new()))
        }
        Value::Global(Global::OrderedDict) => Err(heap.kind("an empty tuple", arguments)),
        Value::Global(Global::Size) => {
            let sizes = argument(given, 0)?;
            heap.tuple(sizes)?;
            Ok(sizes)
        }
        Value::Global(Global::Rebuild(Rebuild::Parameter)) => {
            let data = argument(given, 0)?;
            match heap.tensor(data) {
                Some(_) => Ok(data),
                None => Err(heap.kind("a tensor", data)),
            }
        }
        Value::Global(Global::Rebuild(Rebuild::Typed)) => {
            let storage = storage(heap, argument(given, 0)?)?;
            let dtype = storage.dtype.ok_or(PickleProblem::Kind {
                wanted: "a storage of numbers",
                found: "a storage of bytes",
            })?;
            let tensor = tensor(heap, given, storage, dtype, 6)?;
            heap.add(tensor)
        }
        Value::Global(Global::Rebuild(Rebuild::Untyped)) => {
            let storage = storage(heap, argument(given, 0)?)?;
            let dtype = match argument(given, 6)? {
                Value::Global(Global::Dtype(dtype)) => dtype,
                other => return Err(heap.kind("a dtype", other)),
            };
            let tensor = tensor(heap, given, storage, dtype, 7)?;
            heap.add(tensor)
        }
        other => Err(heap.kind("a function that rebuilds tensors", other)),
    }
}

/// A tensor of `(storage, offset, size, stride, …)`, with metadata, if any, in place `metadata`.
fn tensor(
    heap: &Heap<'_>,
    given: &[Value],
    storage: Storage,
    dtype: StoredDtype,
    metadata: usize,
) -> Result<Object, PickleProblem> {
    // Metadata holds lazy conjugation and negation, which would change the numbers.
    if given
        .get(metadata)
        .is_some_and(|&held| heap.dict(held).is_some_and(|items| !items.is_empty()))
    {
        return Err(PickleProblem::Kind {
            wanted: "a plain tensor",
            found: "a lazily negated one",
        });
    }
    let offset = heap.size(argument(given, 1)?)?;
    Ok(Object::Tensor(Tensor {
        storage,
        dtype,
        offset,
        shape: tuple(heap, argument(given, 2)?)?,
        strides: tuple(heap, argument(given, 3)?)?,
    }))
}

/// The storage that a persistent id `("storage", type, key, location, elements)` stands for.
pub(super) fn persistent(heap: &mut Heap<'_>, id: Value) -> Result<Value, PickleProblem> {
    let given = heap.tuple(id)?;
    if heap.text(argument(given, 0)?)? != "storage" {
        return Err(PickleProblem::Kind {
            wanted: "a storage",
            found: "another persistent object",
        });
    }
    let dtype = match argument(given, 1)? {
        Value::Global(Global::Storage(dtype)) => dtype,
        other => return Err(heap.kind("a storage type", other)),
    };
    let key = argument(given, 2)?;
    heap.text(key)?;
    let elements = heap.size(argument(given, 4)?)?;
    heap.add(Object::Storage(Storage {
        dtype,
        key,
        elements,
    }))
}

fn storage(heap: &Heap<'_>, value: Value) -> Result<Storage, PickleProblem> {
    match heap.object(value) {
        Some(Object::Storage(storage)) => Ok(*storage),
        _ => Err(heap.kind("a storage", value)),
    }
}

fn tuple(heap: &Heap<'_>, value: Value) -> Result<u32, PickleProblem> {
    match (heap.object(value), value) {
        (Some(Object::Tuple(_)), Value::Object(position)) => Ok(position),
        _ => Err(heap.kind("a tuple", value)),
    }
}

fn argument(given: &[Value], place: usize) -> Result<Value, PickleProblem> {
    given.get(place).copied().ok_or(PickleProblem::Missing)
}
