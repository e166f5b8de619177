//! Only for tests: goldens, tolerances, HTTP client, fakes.
