//! axum: routes, limits, status codes.
