//! How does a terminal show the token of the moment?
#![forbid(unsafe_code)]

pub mod reader;
pub mod tag;
