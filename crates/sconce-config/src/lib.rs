//! Options as a table, resolved to settings; sole reader of the environment.
