//! The raw JavaScript bindings, one file for each class. They translate types and nothing else;
//! what people see is written in TypeScript on top of them.
//!
//! Nothing here blocks the JavaScript thread. An engine answers through a promise that its own
//! thread settles ([`promise`]); such a promise keeps Node.js alive while it is pending, and a
//! model that nobody waits for does not. When an environment ends, everything it started is
//! ended with it ([`environment`]).
#![allow(unsafe_code, reason = "what napi-derive generates for the exported items is unsafe")]

mod adapter;
mod convert;
mod environment;
mod error;
mod evaluation;
mod file_lock;
mod generation;
mod load;
mod model;
mod outline;
mod promise;
mod prompt_cache;
mod request;
mod system;
