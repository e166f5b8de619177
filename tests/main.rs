//! The one integration test binary: each module is a subject. Unit tests live beside the code.
