//! The contract of a transport as tests that anybody can run on their own.
