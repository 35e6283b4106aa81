//! DoExchange for stock clients: `get`, and what is none of ours.

mod airport;
mod get;
