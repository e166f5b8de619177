//! Models by name: fetch, load, health, routing.
