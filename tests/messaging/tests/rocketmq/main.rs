//! RocketMQ as people run it: the official broker and proxy.

// The remoting client's futures nest deeply.
#![recursion_limit = "512"]

mod batch;
mod came;
mod clients;
mod frames;
mod nothing_lost;
mod remoting;
mod retry;
