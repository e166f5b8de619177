//! In which type weights can be kept.

use sconce_nn::weights::{HostTensor, StoredDtype};

use super::load_error::LoadError;

/// The type that is wanted of a weight, unless finite numbers become infinite in it: then the type that it is stored in.
pub(crate) fn holding(
    name: &str,
    weight: &HostTensor,
    wanted: StoredDtype,
) -> Result<StoredDtype, LoadError> {
    if !weight.overflows(wanted)? {
        return Ok(wanted);
    }
    let kept = match weight.dtype() {
        StoredDtype::F64 => StoredDtype::F32,
        other => other,
    };
    tracing::warn!("`{name}` has numbers that {wanted} does not hold: it stays {kept}");
    Ok(kept)
}
