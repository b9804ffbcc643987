//! RocketMQ as people run it: the official broker and proxy.

mod batch;
mod clients;
mod frames;
mod nothing_lost;
mod retry;
