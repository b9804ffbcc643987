//! The page's server: what windows are kept, and what a browser on this machine may ask of them.
//!
//! It reads what is kept and nothing else; the capture hands each window over and never waits for it. What one request may cost
//! is bounded, in windows, bytes and time; costly work is done on one thread that yields to all others, and its results are
//! kept for the next one who asks.

mod answer;
mod archive;
mod body;
mod cache;
mod export;
mod guard;
mod health;
mod overview;
mod question;
mod server;

pub(crate) use archive::{Archive, Bounds};
pub(crate) use health::{Health, SinkState};
pub(crate) use server::{PageError, PageServer, Site};
