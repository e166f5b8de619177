//! Requests and answers of this dialect.
